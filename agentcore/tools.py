"""Tools: typed functions a model may ask for, and what running them can do to the world."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, get_type_hints, overload
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.errors import PydanticUserError

from . import jsontext
from .exceptions import ModelRetry, UserError


class EffectKind(StrEnum):
    """What may be done with a call that was interrupted."""

    PURE = "pure"
    ATOMIC = "atomic"
    IDEMPOTENT = "idempotent"
    CHECKABLE = "checkable"
    UNSAFE = "unsafe"


LEAVES_NOTHING = frozenset({EffectKind.PURE, EffectKind.ATOMIC})
"""An interrupted call with one of these effects has left nothing behind: it has failed, or may run again."""


@dataclass(frozen=True)
class Checkable:
    """An effect with a function that tells whether the call happened.

    `check(arguments, ctx)` returns the result of the call if it happened, or
    `None` if it did not, in which case the call is run again.
    """

    check: Callable[[Mapping[str, Any], ToolContext], Any]


class ToolContext(Protocol):
    """What a tool is told about the call it serves."""

    @property
    def run_id(self) -> UUID:
        """The run."""

    @property
    def thread_id(self) -> UUID:
        """Its thread."""

    @property
    def user(self) -> Any:
        """For whom the run works: an instance of the project's user model, or None."""

    @property
    def call_id(self) -> str:
        """The call, as events and the API name it."""

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt to run this call, and for no other call."""

    @property
    def attempt(self) -> int:
        """The run's attempt: a tool with a store of its own can refuse a lower one."""

    def progress(self, value: Any) -> None:
        """Show `value` (JSON data) to whoever watches the run."""

    @property
    def cancelled(self) -> bool:
        """Whether somebody has asked to cancel the run, or the worker has lost it."""


NeedsApproval = bool | Callable[[Mapping[str, Any], ToolContext], bool | Awaitable[bool]]


@dataclass(frozen=True)
class Tool:
    """A function as the engine sees it; made by `@tool`."""

    name: str
    description: str
    function: Callable[..., Any]
    parameters: type[BaseModel]
    schema: Mapping[str, Any]
    schema_digest: str
    context_parameter: str | None
    effect: EffectKind
    check: Callable[[Mapping[str, Any], ToolContext], Any] | None
    needs_approval: NeedsApproval
    timeout: float | None
    retries: int

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function directly, as a test would."""
        return self.function(*args, **kwargs)

    @property
    def is_async(self) -> bool:
        """Whether the function must be awaited."""
        return inspect.iscoroutinefunction(self.function)

    def validate(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments as plain JSON data, checked against the signature.

        Raises `ModelRetry` with a message the model can act on.
        """
        try:
            return self.parameters.model_validate(dict(arguments)).model_dump(mode="json")
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:5])
            raise ModelRetry(f"The arguments of {self.name} are not valid: {faults}.") from error

    def bind(
        self, arguments: Mapping[str, Any], ctx: ToolContext, *, function: Callable[..., Any] | None = None
    ) -> Callable[[], Any]:
        """Return the call, ready to be made with typed arguments; of another function, if one is given."""
        target = function or self.function
        model = self.parameters.model_validate(dict(arguments))
        keywords = {name: getattr(model, name) for name in type(model).model_fields}
        if self.context_parameter:
            keywords[self.context_parameter] = ctx
        return lambda: target(**keywords)


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...


@overload
def tool(
    *,
    name: str = ...,
    needs_approval: NeedsApproval = ...,
    effect: str | Checkable = ...,
    timeout: float | None = ...,
    retries: int = ...,
) -> Callable[[Callable[..., Any]], Tool]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str = "",
    needs_approval: NeedsApproval = False,
    effect: str | Checkable = EffectKind.UNSAFE,
    timeout: float | None = None,
    retries: int = 0,
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a tool of a typed function; its docstring is what the model reads.

    `effect` says what may be done with a call that was interrupted: `pure`, `atomic`
    (a sync function that writes to the project's database and nowhere else: it is
    committed together with its result), `idempotent`, a `Checkable`, or `unsafe`.
    `timeout` is in seconds (default: the `TOOL_TIMEOUT` setting). `retries` counts
    repetitions after a failure, and needs an effect other than `unsafe`.
    Raises `UserError` for a function that cannot be a tool.
    """

    def make(target: Callable[..., Any]) -> Tool:
        kind = EffectKind.CHECKABLE if isinstance(effect, Checkable) else _effect(effect, target)
        if retries and kind is EffectKind.UNSAFE:
            raise UserError(f"Tool {target.__name__}: an unsafe tool is never repeated, so it takes no retries.")
        if kind is EffectKind.ATOMIC and inspect.iscoroutinefunction(target):
            raise UserError(f"Tool {target.__name__}: transactions are sync in Django. Write an atomic tool with def.")
        try:
            context_parameter, parameters = _signature(target)
            schema = parameters.model_json_schema()
        except (NameError, PydanticUserError) as error:
            raise UserError(f"Tool {target.__name__}: its signature has no JSON Schema. {error}") from error
        return Tool(
            name=_name(name or target.__name__),
            description=inspect.getdoc(target) or "",
            function=target,
            parameters=parameters,
            schema=schema,
            schema_digest=jsontext.digest(jsontext.canonical(schema)),
            context_parameter=context_parameter,
            effect=kind,
            check=effect.check if isinstance(effect, Checkable) else None,
            needs_approval=needs_approval,
            timeout=timeout,
            retries=retries,
        )

    return make if function is None else make(function)


def _effect(effect: str, target: Callable[..., Any]) -> EffectKind:
    choices = [kind.value for kind in EffectKind if kind is not EffectKind.CHECKABLE]
    if effect not in choices:
        raise UserError(f"Tool {target.__name__}: effect must be one of {', '.join(choices)}, or Checkable(function).")
    return EffectKind(effect)


def _name(name: str) -> str:
    plain = name.replace("_", "")
    if not (name.isascii() and plain.isalnum() and name.islower() and len(name) <= 64):
        raise UserError(f"Tool name {name!r}: use up to 64 of a–z, 0–9 and _.")
    return name


def _signature(target: Callable[..., Any]) -> tuple[str | None, type[BaseModel]]:
    """Return the name of the context parameter, and a model of all the others."""
    hints = get_type_hints(target, include_extras=True)
    context_parameter: str | None = None
    declared: dict[str, Any] = {}
    for parameter in inspect.signature(target).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise UserError(f"Tool {target.__name__}: *{parameter.name} has no schema; name every parameter.")
        if parameter.name.startswith("_"):
            raise UserError(f"Tool {target.__name__}: parameter {parameter.name} may not begin with an underscore.")
        if parameter.name not in hints:
            raise UserError(f"Tool {target.__name__}: parameter {parameter.name} needs a type annotation.")
        if hints[parameter.name] is ToolContext:
            context_parameter = parameter.name
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        declared[parameter.name] = (hints[parameter.name], default)
    config = ConfigDict(extra="forbid", allow_inf_nan=False)  # JSON has no NaN, so no tool is called with one
    return context_parameter, create_model(target.__name__, __config__=config, **declared)
