"""What a tool's function may be called with: its parameters as a model gives them, and where its context goes."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, get_args, get_origin, get_type_hints

from ..exceptions import UserError
from ..values.functions import given_to, underlying
from .conversion import Conversion, arguments
from .docstrings import describe


class Arguments(Protocol):
    """The arguments of a tool, as a model gives them and as they are stored; `Conversion` says more of each."""

    @property
    def what(self) -> str:
        """How sentences name the tool."""

    @property
    def schema(self) -> Mapping[str, Any]:
        """Their JSON Schema, as a model is told it."""

    @property
    def digest(self) -> str:
        """What an approval binds of how the tool is declared."""

    @property
    def runs_code(self) -> bool:
        """Whether reading them may block."""

    def record(self, raw: Any) -> Any:
        """Return the JSON data to store of what a model sent; raises `ModelRetry` or `NotKept`."""

    def given(self, stored: Any) -> Any:
        """Return what the body is given of what was stored; raises `NotKept`."""


class Takes(Protocol):
    """What a tool's function is called with."""

    @property
    def arguments(self) -> Arguments:
        """The arguments that a model gives."""

    def keywords(self, stored: Any, ctx: Any) -> dict[str, Any]:
        """Return what to call the function with; raises what `Arguments.given` raises."""


@dataclass(frozen=True)
class Signature:
    """A function's arguments, the name of its context parameter, and what its docstring says."""

    arguments: Conversion
    context: str | None
    description: str

    def keywords(self, stored: Any, ctx: Any) -> dict[str, Any]:
        """Return what to call the function with; raises what `Conversion.given` raises."""
        keywords = dict(vars(self.arguments.given(stored)))
        if self.context:
            keywords[self.context] = ctx
        return keywords

    def dump(self, keywords: Mapping[str, Any]) -> Any:
        """Return typed arguments, the context left out, as the JSON data that `keywords` reads."""
        values = object.__new__(self.arguments.declared)
        vars(values).update({name: value for name, value in keywords.items() if name != self.context})
        return self.arguments.dump(values)


def read(function: Callable[..., Any], what: str, title: str, context_type: type[Any]) -> Signature:
    """Return what a function takes; `context_type` annotates the parameter that is not the model's to give.

    Raises `UserError` for a parameter that a model cannot give by name and type.
    """
    parameters = _parameters(function, what)
    called, given = underlying(function), given_to(function)
    hints = _hints(called, what)
    context: str | None = None
    fields: dict[str, tuple[Any, Any]] = {}
    notes: dict[str, str] = {}
    for parameter in parameters:
        name = parameter.name
        if name in given:
            continue
        _check(parameter, hints, what)
        if _mentions(hints[name], context_type):
            if _plain(hints[name]) is not context_type:
                raise UserError(
                    f"{what}: {name} is {_spelled(hints[name])}. Annotate it as {context_type.__name__}: it is always "
                    "given."
                )
            if context is not None:
                raise UserError(f"{what}: {context} and {name} are both {context_type.__name__}. Keep one of them.")
            context = name
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[name] = (hints[name], default)
        if note := _note(hints[name]):
            notes[name] = note
    described = describe(called, fields)
    found = arguments(title, fields, what)
    return Signature(found.with_descriptions({**described.parameters, **notes}), context, described.text)


def _parameters(function: Callable[..., Any], what: str) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:  # a function of C, or an object with a `__signature__` that is none
        raise UserError(
            f"{what}: Python does not know its parameters. Write a function with typed parameters that calls it."
        ) from error


def _check(parameter: inspect.Parameter, hints: Mapping[str, Any], what: str) -> None:
    name = parameter.name
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise UserError(f"{what}: {name} has no schema, for it is positional-only. Remove the / from its signature.")
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise UserError(f"{what}: *{name} has no schema; name every parameter.")
    if name.startswith("_"):
        raise UserError(f"{what}: parameter {name} may not begin with an underscore.")
    if name not in hints:
        raise UserError(f"{what}: parameter {name} needs a type annotation (the call's context: ToolContext).")


def _hints(function: Callable[..., Any], what: str) -> dict[str, Any]:
    """Return the annotations of the parameters; that of the result is nobody's business here."""
    inner = inspect.unwrap(function)
    annotations = {name: hint for name, hint in getattr(function, "__annotations__", {}).items() if name != "return"}
    try:
        # What `get_type_hints` looks at of a function.
        holder = types.SimpleNamespace(__annotations__=annotations, __globals__=getattr(inner, "__globals__", {}))
        return get_type_hints(holder, include_extras=True)
    except Exception as error:
        raise UserError(
            f"{what}: its signature has no JSON Schema. {error}. Import what its annotations name at the top of its "
            "module, and not for type checkers only."
        ) from error


def _plain(hint: Any) -> Any:
    """Return an annotation without what `Annotated` adds to it."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _mentions(hint: Any, context_type: type[Any]) -> bool:
    """Whether an annotation is the context's, or has it somewhere inside."""
    if context_type in getattr(hint, "__mro__", ()):
        return True
    return any(_mentions(inner, context_type) for inner in get_args(hint) if not isinstance(inner, str))


def _spelled(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)


def _note(hint: Any) -> str:
    """Return what `Annotated[…, "a sentence"]` says of a parameter, or a `Doc` in it."""
    extras = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    texts = (extra if isinstance(extra, str) else getattr(extra, "documentation", "") for extra in extras)
    return next((text for text in texts if isinstance(text, str) and text.strip()), "")
