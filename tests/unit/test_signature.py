"""What `@tool` reads from a function: its context parameter, and what is said of each parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Optional, Union

import pytest
from pydantic import Field
from typing_extensions import Doc

from agentcore import ToolContext, tool
from agentcore.exceptions import UserError
from tests.unit.declared import NOBODY

if TYPE_CHECKING:
    from django.db.models import QuerySet

pytestmark = pytest.mark.once


class OwnContext(ToolContext):
    """A context of an application's own."""


def function(annotation: Any, default: Any = ...) -> Any:
    def look(ctx: Any, number: int) -> Any:
        return (ctx, number)

    look.__annotations__["ctx"] = annotation
    look.__kwdefaults__ = None if default is ... else {"ctx": default}
    return look


@pytest.mark.covers("fc:A6")
@pytest.mark.parametrize(
    "annotation",
    [
        Optional[ToolContext],  # noqa: UP045
        Union[ToolContext, str],  # noqa: UP007
        ToolContext | None,
        "ToolContext | None",
        "Optional[ToolContext]",
        Annotated[ToolContext | None, "the context"],
        list[ToolContext],
        dict[str, ToolContext],
        type[ToolContext],
        OwnContext,
        OwnContext | None,
    ],
)
def test_a_context_that_is_annotated_otherwise_is_told_how(annotation: Any) -> None:
    with pytest.raises(UserError, match=r"Tool look: ctx is .*Annotate it as ToolContext"):
        tool(function(annotation))


@pytest.mark.covers("fc:A6")
@pytest.mark.parametrize(
    "annotation",
    [ToolContext, "ToolContext", Annotated[ToolContext, "what serves the call"], Annotated[ToolContext, 1]],
)
def test_a_context_is_given_and_never_asked_of_the_model(annotation: Any) -> None:
    made = tool(function(annotation))
    assert set(made.schema["properties"]) == {"number"}
    assert made.bind(made.validate({"number": 1}), NOBODY)() == (NOBODY, 1)


@pytest.mark.covers("fc:A6")
def test_a_context_with_a_default_or_another_name_is_given() -> None:
    @tool
    def look(number: int, *, about: ToolContext = None) -> Any:  # type: ignore[assignment]
        """Look."""
        return (about, number)

    assert look.bind(look.validate({"number": 1}), NOBODY)() == (NOBODY, 1)


def two(ctx: ToolContext, number: int, other: ToolContext) -> None: ...
def positional(ctx: ToolContext, /, number: int) -> None: ...
def starred(number: int, *ctx: ToolContext) -> None: ...
def untyped(ctx, number: int) -> None: ...  # type: ignore[no-untyped-def]
def typing_only(found: QuerySet[Any]) -> None: ...


@pytest.mark.covers("fc:A6")
@pytest.mark.parametrize(
    ("target", "says"),
    [
        (two, "ctx and other are both ToolContext"),
        (positional, "ctx has no schema, for it is positional-only. Remove the /"),
        (starred, r"\*ctx has no schema"),
        (untyped, r"parameter ctx needs a type annotation \(the call's context: ToolContext\)"),
        (typing_only, "QuerySet.* at the top of its module, and not for type checkers only"),
    ],
)
def test_a_signature_that_cannot_be_called_says_why(target: Any, says: str) -> None:
    with pytest.raises(UserError, match=f"Tool {target.__name__}: .*{says}"):
        tool(target)


def test_what_a_function_returns_is_not_looked_at() -> None:
    @tool
    def look(number: int) -> QuerySet[Any]:
        """Look."""
        raise NotImplementedError

    assert set(look.schema["properties"]) == {"number"}


# --- descriptions -----------------------------------------------------------------------------------------------

GOOGLE = """Look up an order.

Orders of the last year: others are gone.

Args:
    number: The order's number,
        as on the receipt.
    kind (str, optional): Which kind.
    ctx: The context.

Returns:
    The order.
"""
NUMPY = """Look up an order.

Orders of the last year: others are gone.

Parameters
----------
number : str
    The order's number,
    as on the receipt.
kind : str, optional
    Which kind.
ctx : ToolContext
    The context.

Returns
-------
str
    The order.
"""
SPHINX = """Look up an order.

Orders of the last year: others are gone.

:param number: The order's number,
    as on the receipt.
:param str kind: Which kind.
:param ctx: The context.
:returns: The order.
"""


def documented(doc: str | None, number: Any = str, kind: Any = str) -> Any:
    def look(ctx: ToolContext, number: Any, kind: Any = "a") -> str:
        return "found"

    look.__doc__ = doc
    look.__annotations__ |= {"number": number, "kind": kind}
    return tool(look)


def told(made: Any) -> dict[str, str | None]:
    return {name: declared.get("description") for name, declared in made.schema["properties"].items()}


@pytest.mark.covers("fc:A7")
@pytest.mark.parametrize("doc", [GOOGLE, NUMPY, SPHINX], ids=["google", "numpy", "sphinx"])
def test_what_a_docstring_says_of_parameters_stands_in_the_schema_and_nowhere_else(doc: str) -> None:
    made = documented(doc)
    assert told(made) == {"number": "The order's number, as on the receipt.", "kind": "Which kind."}
    assert made.description == ("Look up an order.\n\nOrders of the last year: others are gone.\n\nReturns: The order.")
    assert made.schema_digest == documented("Look.").schema_digest, "a text is no reason to ask for an approval again"


@pytest.mark.covers("fc:A7")
@pytest.mark.parametrize(
    "annotation",
    [
        Annotated[str, "the order's number"],
        Annotated[str, Field(min_length=1), "the order's number"],
        Annotated[str, Field(description="the order's number"), "something else"],
        Annotated[str, Doc("the order's number")],
        Annotated[str, Field(alias="theNumber"), "the order's number"],
    ],
)
@pytest.mark.parametrize("doc", [GOOGLE, "Look."])
def test_what_annotated_says_of_a_parameter_stands_in_the_schema(annotation: Any, doc: str) -> None:
    made = documented(doc, number=annotation)
    assert next(iter(told(made).values())) == "the order's number"


@pytest.mark.covers("fc:A7")
@pytest.mark.parametrize(
    "doc",
    [
        None,
        "",
        "Look.",
        "Look.\n\nNote: it takes a while.\n\n    >>> look()",
        "Args:\n  number\n:param\nParameters\n-----\n",
        "Look.\n\nArgs:\n    number\n    kind:\n",
        ":param",
        "@param\n:type x",
    ],
)
def test_a_docstring_that_says_nothing_of_its_parameters_is_read_as_it_is(doc: str | None) -> None:
    made = documented(doc)
    assert set(told(made).values()) == {None}
    assert made.description == (doc or "").strip()
