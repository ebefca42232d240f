"""Tools: typed functions a model may ask for, and what running them can do to the world."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, Protocol, overload
from uuid import UUID

from ..exceptions import ModelRetry, UserError
from ..values import functions
from . import declared
from .signature import Takes, read


class EffectKind(StrEnum):
    """What may be done with a call that was interrupted."""

    PURE = "pure"
    ATOMIC = "atomic"
    IDEMPOTENT = "idempotent"
    CHECKABLE = "checkable"
    UNSAFE = "unsafe"


LONGEST_DESCRIPTION = 10_000  # characters; more is no description, and paid for with every request

LEAVES_NOTHING = frozenset({EffectKind.PURE, EffectKind.ATOMIC})
"""An interrupted call with one of these effects has left nothing behind: it has failed, or may run again."""


@dataclass(frozen=True)
class Checkable:
    """An effect with a function that tells whether the call happened.

    `check(arguments, ctx)` returns the result of the call if it happened, or
    `None` if it did not, in which case the call is run again.
    """

    check: Callable[[Mapping[str, Any], ToolContext], Any]

    def __post_init__(self) -> None:
        """Raise `UserError` for a check that cannot be called so."""
        declared.function("Checkable: check", self.check, "arguments, ctx")


OnError = Literal["fail", "ask"]
ON_ERROR: tuple[OnError, ...] = ("fail", "ask")


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
        """Show JSON data to the people who watch the run; returns at once.

        A body that shows values faster than they can be written loses older ones; the latest are written.
        """

    @property
    def cancelled(self) -> bool:
        """Whether somebody has asked to cancel the run, or the worker has lost it."""


NeedsApproval = bool | Callable[[Mapping[str, Any], ToolContext], bool | Awaitable[bool]]


@dataclass(frozen=True)
class Tool:
    """A function as the engine sees it; made by `@tool`, or of what a server tells about a tool of its own."""

    name: str
    description: str
    function: Callable[..., Any]
    signature: Takes
    effect: EffectKind
    check: Callable[[Mapping[str, Any], ToolContext], Any] | None
    needs_approval: NeedsApproval
    timeout: float | None
    retries: int
    on_error: OnError = "fail"

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the function directly, as a test would."""
        return self.function(*args, **kwargs)

    @property
    def is_async(self) -> bool:
        """Whether the function is called on the run's loop; what it gives back is awaited in any case."""
        return functions.is_coroutine_function(self.function)

    @property
    def schema(self) -> Mapping[str, Any]:
        """The JSON Schema of its arguments."""
        return self.signature.arguments.schema

    @property
    def schema_digest(self) -> str:
        """The digest of that schema, without what the docstring says."""
        return self.signature.arguments.digest

    def validate(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments as the JSON data to store, show and approve, checked against the signature.

        Raises `ModelRetry` with a message the model can act on, and `NotKept` where the
        body would be given others than those.
        """
        try:
            recorded: dict[str, Any] = self.signature.arguments.record(dict(arguments))
        except ModelRetry as error:
            raise ModelRetry(f"The arguments of {self.name} are not valid: {error.message}.") from error
        return recorded

    def bind(
        self, arguments: Mapping[str, Any], ctx: ToolContext, *, function: Callable[..., Any] | None = None
    ) -> Callable[[], Any]:
        """Return the call, ready to be made with typed arguments; of another function, if one is given.

        Raises `NotKept` where the tool reads the arguments otherwise now than when they were recorded.
        """
        target = function or self.function
        keywords = self.signature.keywords(dict(arguments), ctx)
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
    on_error: OnError = ...,
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
    on_error: OnError = "fail",
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a tool of a typed function; its docstring is what the model reads.

    `effect` says what may be done with a call that was interrupted: `pure`, `atomic`
    (a sync function that writes to the project's database and nowhere else: it is
    committed together with its result), `idempotent`, a `Checkable`, or `unsafe`.
    `timeout` is in seconds (default: the `TOOL_TIMEOUT` setting). `retries` counts
    repetitions after a failure, and needs an effect other than `unsafe`; a `ModelRetry`
    is advice for the model, and goes to it at once. `on_error` says what an
    exception of the body means: the call has failed, or ("ask") a person is asked
    whether it took effect, as of an unsafe call that a person approved.
    Raises `UserError` for a function that cannot be a tool.
    """

    def make(target: Callable[..., Any]) -> Tool:
        _check_target(target, name)
        called = functions.name_of(target)
        what = f"Tool {called}"
        kind = conduct(target, called, needs_approval, effect, timeout, retries, on_error)
        known = _name(called if name == "" else name)
        signature = read(target, what, known, ToolContext)
        if len(signature.description) > LONGEST_DESCRIPTION:
            raise UserError(
                f"{what}: its docstring has {len(signature.description)} characters, and a model reads it with each "
                f"request: keep it below {LONGEST_DESCRIPTION}, and put the rest in comments."
            )
        return Tool(
            name=known,
            description=signature.description,
            function=target,
            signature=signature,
            effect=kind,
            check=effect.check if isinstance(effect, Checkable) else None,
            needs_approval=needs_approval,
            timeout=timeout,
            retries=retries,
            on_error=on_error,
        )

    return make if function is None else make(function)


def conduct(
    target: Callable[..., Any],
    called: str,
    needs_approval: Any,
    effect: str | Checkable,
    timeout: float | None,
    retries: int,
    on_error: str = "fail",
) -> EffectKind:
    """Check what a tool declares of how it is run, and return its effect; raises `UserError` for what cannot work.

    `called` is how sentences name the tool; the others are what `tool` takes.
    """
    what = f"Tool {called}"
    declared.whole(f"{what}: retries", retries, 0)
    if timeout is not None:
        declared.positive(f"{what}: timeout", timeout)
    if not isinstance(needs_approval, bool):
        declared.function(f"{what}: needs_approval (True, False, or a function)", needs_approval, "arguments, ctx")
    kind = EffectKind.CHECKABLE if isinstance(effect, Checkable) else _effect(effect, called)
    _check_conduct(target, what, kind, retries, on_error)
    return kind


def _check_target(target: Any, name: str) -> None:
    if isinstance(target, Tool):
        raise UserError(f"Tool {target.name} is decorated with @tool twice. Once is enough.")
    unnamed = not name and not hasattr(target, "__name__")  # a partial, or an object that can be called
    if isinstance(target, type) or not callable(target) or unnamed:
        raise UserError(
            f"@tool is given {declared.shown(target)}: decorate a function (@tool, or @tool(name=…) with keywords)."
        )


def _effect(effect: str, called: str) -> EffectKind:
    choices = [kind.value for kind in EffectKind if kind is not EffectKind.CHECKABLE]
    if effect not in choices:
        raise UserError(f"Tool {called}: effect must be one of {', '.join(choices)}, or Checkable(function).")
    return EffectKind(effect)


def _check_conduct(target: Callable[..., Any], what: str, kind: EffectKind, retries: int, on_error: str) -> None:
    """Raise `UserError` where a function cannot be run as its declaration says."""
    if functions.is_generator_function(target):
        raise UserError(f"{what}: calling a generator function runs nothing. Return a list of what it yields.")
    if kind is EffectKind.ATOMIC and functions.is_coroutine_function(target):
        raise UserError(f"{what}: transactions are sync in Django. Write an atomic tool with def.")
    if retries and kind is EffectKind.UNSAFE:
        raise UserError(f"{what}: an unsafe tool is never repeated, so it takes no retries.")
    declared.one_of(f"{what}: on_error", on_error, ON_ERROR)
    if on_error == "ask" and kind in LEAVES_NOTHING:
        raise UserError(f"{what}: a {kind} tool that fails leaves nothing behind, so on_error has nothing to ask.")


def _name(name: str) -> str:
    if not isinstance(name, str):
        raise UserError(f"Tool name {declared.shown(name)}: write text, in quotes.")
    plain = name.replace("_", "")
    if not (name.isascii() and plain.isalnum() and name.islower() and len(name) <= 64):
        raise UserError(f"Tool name {name!r}: use up to 64 of a–z, 0–9 and _.")
    return name
