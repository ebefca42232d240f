"""`@tool`: what can be a tool, what its schema says, and what it is called with."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from datetime import date
from functools import partial
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from agentcore import Checkable, Tool, ToolContext, tool
from agentcore.declaration.tool import EffectKind
from agentcore.exceptions import ModelRetry, UserError

pytestmark = pytest.mark.once


class Address(BaseModel):
    street: str
    number: int = 1


@tool(effect="idempotent", retries=2, timeout=5)
def ship(
    ctx: ToolContext,
    to: Address,
    on: date,
    kind: Literal["air", "sea"] = "sea",
    weight: Annotated[float, Field(gt=0)] = 1.5,
) -> Any:
    """Ship a parcel.

    The carrier is chosen for you.
    """
    return (ctx, to, on, kind, weight)


def test_the_model_reads_the_docstring_and_the_signature_without_the_context() -> None:
    assert (ship.name, ship.effect, ship.retries, ship.timeout) == ("ship", EffectKind.IDEMPOTENT, 2, 5)
    assert ship.description == "Ship a parcel.\n\nThe carrier is chosen for you."
    assert set(ship.schema["properties"]) == {"to", "on", "kind", "weight"}
    assert ship.schema["required"] == ["to", "on"] and ship.schema["additionalProperties"] is False


def test_a_call_gets_typed_arguments_and_its_context() -> None:
    plain = ship.validate({"to": {"street": "High"}, "on": "2026-01-02"})
    assert plain == {"to": {"street": "High", "number": 1}, "on": "2026-01-02", "kind": "sea", "weight": 1.5}
    context: Any = object()
    assert ship.bind(plain, context)() == (context, Address(street="High"), date(2026, 1, 2), "sea", 1.5)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"on": "2026-01-02"}, "to: Field required"),
        ({"to": {"street": "x"}, "on": "soon"}, "on: "),
        ({"to": {"street": "x"}, "on": "2026-01-02", "kind": "rail"}, "kind: "),
        ({"to": {"street": "x"}, "on": "2026-01-02", "weight": -1}, "weight: "),
        ({"to": {"street": "x"}, "on": "2026-01-02", "ctx": "mine"}, "ctx: Extra inputs"),
        ({"to": {"street": "x"}, "on": "2026-01-02", "extra": 1}, "extra: Extra inputs"),
    ],
)
def test_wrong_arguments_are_refused_with_advice_for_the_model(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ModelRetry, match=f"The arguments of ship are not valid: .*{named}"):
        ship.validate(arguments)


@pytest.mark.covers("fault:D14")
@pytest.mark.parametrize("number", [math.nan, math.inf, "nan", "-inf"])
def test_a_number_that_is_none_is_not_given_to_a_tool(number: Any) -> None:
    @tool
    def weigh(kilos: float) -> None:
        """Weigh."""

    with pytest.raises(ModelRetry, match="finite"):
        weigh.validate({"kilos": number})


def test_the_digest_of_the_schema_changes_with_the_signature_only() -> None:
    def make(annotation: Any, doc: str) -> Tool:
        def f(a: Any) -> None: ...

        f.__annotations__["a"], f.__doc__ = annotation, doc
        return tool(f)

    assert make(int, "One.").schema_digest == make(int, "Two.").schema_digest
    assert make(int, "One.").schema_digest != make(str, "One.").schema_digest


def star(*values: int) -> None: ...
def keywords(**values: int) -> None: ...
def untyped(value) -> None: ...  # type: ignore[no-untyped-def]
def fine(value: int) -> None: ...
def positional(value: int, /) -> None: ...
def secretive(_hidden: int) -> None: ...
def wrong_default(value: Unknown) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def untypable(value: object) -> None: ...
def uncallable(value: Callable[[int], int]) -> None: ...


@pytest.mark.covers("dj:SET-5")
@pytest.mark.parametrize(
    ("function", "says"),
    [
        (star, r"\*values has no schema"),
        (keywords, r"\*values has no schema"),
        (positional, "value has no schema"),
        (untyped, "parameter value needs a type annotation"),
        (secretive, "_hidden"),
        (wrong_default, "Unknown"),
        (uncallable, "no JSON Schema"),
    ],
)
def test_a_function_whose_signature_has_no_schema_is_a_developers_mistake(function: Any, says: str) -> None:
    with pytest.raises(UserError, match=f"Tool {function.__name__}.*{says}"):
        tool(function)


@pytest.mark.covers("fc:A13")
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"effect": "harmless"}, "effect must be one of pure, atomic, idempotent, unsafe"),
        ({"effect": "checkable"}, "or Checkable"),
        ({"retries": 1}, "an unsafe tool is never repeated"),
        ({"name": "Bad Name"}, "up to 64"),
        ({"name": "x" * 65}, "up to 64"),
        ({"name": "größe"}, "up to 64"),
        ({"name": "drop;table"}, "up to 64"),
        ({"name": 7}, "Tool name 7: write text"),
        ({"name": None}, "Tool name None: write text"),
        ({"timeout": 10**400}, "timeout is 1000"),
        ({"retries": 10**30, "effect": "pure"}, "retries is 1000.*at most"),
        ({"retries": -1}, "retries is -1: write a whole number of at least 0"),
        ({"retries": True, "effect": "pure"}, "retries is True"),
        ({"retries": "2", "effect": "pure"}, "retries is '2'"),
        ({"retries": None}, "retries is None"),
        ({"timeout": 0}, "timeout is 0: write a number above 0"),
        ({"timeout": -1}, "timeout is -1"),
        ({"timeout": "3"}, "timeout is '3'"),
        ({"timeout": math.nan}, "timeout is nan"),
        ({"timeout": math.inf}, "timeout is inf"),
        ({"timeout": True}, "timeout is True"),
        ({"needs_approval": "yes"}, r"needs_approval .*is 'yes': write a function of \(arguments, ctx\)"),
        ({"needs_approval": None}, "needs_approval .*is None"),
        ({"needs_approval": 1}, "needs_approval .*is 1"),
        ({"needs_approval": lambda arguments: True}, r"which is not a function of \(arguments, ctx\)"),
        ({"effect": None}, "effect must be one of"),
        ({"effect": ["pure"]}, "effect must be one of"),
        ({"effect": Checkable}, "effect must be one of"),
    ],
)
def test_an_option_that_cannot_work_is_a_developers_mistake(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        tool(**options)(fine)


@pytest.mark.covers("fc:A13")
@pytest.mark.parametrize("check", [None, "happened", lambda arguments: None, 7])
def test_a_check_that_cannot_be_asked_is_refused(check: Any) -> None:
    with pytest.raises(UserError, match=r"Checkable: check is .*function of \(arguments, ctx\)"):
        Checkable(check)


class Callable_:
    def __call__(self, value: int) -> None: ...


@pytest.mark.covers("fc:A13")
@pytest.mark.parametrize("target", ["look", 3, Callable_, Callable_(), partial(fine, value=1), None.__class__])
def test_what_is_no_function_is_no_tool(target: Any) -> None:
    with pytest.raises(UserError, match=r"@tool is given .*: decorate a function"):
        tool(target)


@pytest.mark.covers("fc:A13")
def test_a_function_is_decorated_once_and_described_briefly() -> None:
    with pytest.raises(UserError, match="fine is decorated with @tool twice"):
        tool(tool(fine))  # type: ignore[call-overload]

    def wordy(value: int) -> None: ...

    wordy.__doc__ = "x" * 10_001
    with pytest.raises(UserError, match="its docstring has 10001 characters"):
        tool(wordy)


def test_the_default_effect_is_the_one_that_promises_nothing() -> None:
    assert tool(fine).effect is EffectKind.UNSAFE
    assert tool(fine).needs_approval is False


def test_a_checkable_tool_keeps_its_check() -> None:
    def happened(arguments: Any, ctx: ToolContext) -> None: ...

    made = tool(effect=Checkable(happened), retries=1)(fine)
    assert made.effect is EffectKind.CHECKABLE and made.check is happened


def test_an_async_function_is_awaited() -> None:
    async def wait(value: int) -> None: ...

    assert tool(wait).is_async and not tool(fine).is_async


def test_a_tool_may_be_called_directly_as_a_test_would() -> None:
    @tool
    def double(value: int) -> int:
        """Double."""
        return value * 2

    assert double(4) == 8


@pytest.mark.covers("fc:A13")
@pytest.mark.parametrize("function", [max, getattr, functools.partial(max), operator.itemgetter(1)], ids=repr)
def test_a_function_that_does_not_tell_its_parameters_is_refused_with_what_to_write(function: Any) -> None:
    with pytest.raises(UserError, match="Write a function with typed parameters that calls it"):
        tool(name="x")(function)
