"""A tool's body while it runs: its context, its timeout, its retries, and what its end means."""

from __future__ import annotations

import asyncio
import copy
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from .. import events, foreign, jsontext
from ..conf import get_settings
from ..exceptions import ModelRetry, NotKept, ToolFailed
from ..failpoints import afailpoint
from ..ids import uuid7
from ..models import Run, ToolCall
from ..states import ToolCallStatus
from ..tools import LEAVES_NOTHING, EffectKind, Tool
from .atomic import AtomicBody
from .entry import Commit
from .runtime import APP_THREADS, Runtime
from .takeover import UNVERIFIED
from .threaded import BrokeOff, ThreadedBody, contained

logger = logging.getLogger("agentcore.engine")


@dataclass(frozen=True)
class CallOutcome:
    """How a call ended: succeeded, failed or effect_unverified; `recorded` is what was committed with its body."""

    status: ToolCallStatus
    result: Any = None
    error: str = ""
    began: bool = True
    recorded: Commit | None = None


@dataclass(frozen=True)
class Work:
    """A call that has started, and what it takes to run its body."""

    run: Run
    call: ToolCall
    tool: Tool
    runtime: Runtime
    commit: Callable[[Commit], Awaitable[None]]
    record: Callable[[Any, Sequence[events.Event]], Commit]

    @property
    def seconds(self) -> float:
        """How long one attempt may take."""
        return self.tool.timeout if self.tool.timeout is not None else get_settings().tool_timeout

    async def invoke(self, function: Callable[[], Any], *, is_async: bool) -> Any:
        """Call the app's code: awaited if it is async, in a thread of the application's if it is not.

        What it gives back is made JSON of a bounded size right there, for it may be of any size and shape.
        """
        limit = get_settings().result_limit
        if not is_async:
            return await self.runtime.app(lambda: contained(lambda: foreign.bounded(function(), limit)))
        try:
            value = function()
            return foreign.bounded(await value if inspect.isawaitable(value) else value, limit)
        except SystemExit as error:
            raise BrokeOff from error


NOTHING_HAPPENED = "The tool broke off, and its own check says that nothing happened."


async def execute(work: Work) -> CallOutcome:
    """Run the body, again if its `retries` say so; never raises for what a tool does.

    Before a `Checkable` is repeated, and after it broke off, its check tells whether it happened.
    While its body still runs in a thread, only a check that finds it done says anything.
    """
    if work.call.tries > 1 and work.tool.check is not None:
        happened = await _look_up(work, work.tool.check)
        if happened is not None:
            return happened
    outcome = await _once(work)
    for _ in range(work.tool.retries):
        unknown = outcome.status is ToolCallStatus.EFFECT_UNVERIFIED
        if outcome.status is ToolCallStatus.SUCCEEDED or (unknown and work.tool.effect is not EffectKind.IDEMPOTENT):
            break
        repeated = await _once(work)
        if unknown and not repeated.began:
            break  # what is not known of an earlier attempt stays so
        outcome = repeated
    return outcome


async def _once(work: Work) -> CallOutcome:
    attempt = RunningCall(work)
    outcome = await attempt.run_body()
    if outcome.status is not ToolCallStatus.EFFECT_UNVERIFIED or work.tool.check is None:
        return outcome
    unsettled = attempt.still_runs  # before the check, for what ends meanwhile may have come too late for it
    happened = await _look_up(work, work.tool.check)
    if happened is not None:
        return happened
    return outcome if unsettled else CallOutcome(ToolCallStatus.FAILED, error=NOTHING_HAPPENED)


async def _look_up(work: Work, check: Callable[..., Any]) -> CallOutcome | None:
    """Return how an earlier attempt ended, None if it did not happen; a check that fails tells nothing."""
    ctx, arguments = RunningCall(work), work.call.arguments_json
    try:
        async with asyncio.timeout(work.seconds):
            value = await work.invoke(lambda: check(arguments, ctx), is_async=inspect.iscoroutinefunction(check))
            return None if value is None else CallOutcome(ToolCallStatus.SUCCEEDED, value)
    except (Exception, asyncio.CancelledError) as error:
        if _is_being_ended(error):
            raise
        logger.exception("the check of tool %s failed", work.call.name, extra=_about(work, "check_failed"))
        return _broken_off(work, f"Whether it took effect could not be checked ({type(error).__name__}).")


class RunningCall:
    """One attempt at a call: the `ToolContext` its body is given."""

    def __init__(self, work: Work) -> None:
        self.run_id = work.run.pk
        self.thread_id = work.run.thread_id
        self.user = work.run.user
        self.call_id = work.call.call_id
        self.idempotency_key = str(work.call.pk)
        self.attempt = work.call.attempt
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._stopped = threading.Event()
        self._progress: list[asyncio.Task[None]] = []
        self._shown: list[events.Event] = []
        self._threaded: ThreadedBody | None = None

    @property
    def cancelled(self) -> bool:
        """Whether this attempt is being ended; a long tool looks now and then, and stops."""
        return self._stopped.is_set()

    @property
    def still_runs(self) -> bool:
        """Whether a thread is still busy with its body, though nobody waits for it."""
        return self._threaded is not None and self._threaded.runs

    def progress(self, value: Any) -> None:
        """Show `value` (JSON data) to whoever watches the run; may be called from any thread."""
        shown = jsontext.clean(value)
        if self._work.tool.effect is EffectKind.ATOMIC:
            self._shown.append(events.ToolProgress(self.call_id, shown))  # committed with the rest, or not at all
        else:
            self._loop.call_soon_threadsafe(self._show, shown)

    async def run_body(self) -> CallOutcome:
        """Run the body once and say how it ended.

        A body that raises `ToolFailed` or `ModelRetry` says that it did nothing. Any
        other end that is no result may have had its effect, unless the tool has none.
        """
        work = self._work
        try:
            body = work.tool.bind(work.call.arguments_json, self)
        except NotKept as error:
            logger.error("tool %s: %s", work.call.name, error.message, extra=_about(work, "arguments_not_kept"))
            fault = "The tool does not take these arguments any more."
            # One that ran before and was interrupted may have had its effect then.
            return _broken_off(work, fault) if work.call.tries > 1 else CallOutcome(ToolCallStatus.FAILED, error=fault)
        self._threaded = self._in_thread(body)
        limit = asyncio.timeout(work.seconds)
        try:
            async with limit:
                await afailpoint("in_tool")
                if isinstance(self._threaded, AtomicBody):
                    await self._threaded.ended(work.runtime.app(partial(contained, self._threaded)), limit)
                    return CallOutcome(ToolCallStatus.SUCCEEDED, recorded=self._threaded.recorded)
                value = await work.invoke(self._threaded or body, is_async=work.tool.is_async)
                return CallOutcome(ToolCallStatus.SUCCEEDED, value)
        except (ToolFailed, ModelRetry) as error:
            return CallOutcome(ToolCallStatus.FAILED, error=jsontext.shorten(error.message, 2000))
        except (Exception, asyncio.CancelledError) as error:
            if _is_being_ended(error) or (isinstance(self._threaded, AtomicBody) and self._threaded.is_unknown(error)):
                raise
            if limit.expired():
                if self._never_began():
                    return _not_begun(work)
                return _broken_off(work, f"The tool did not end within {work.seconds:g} seconds.")
            return self._raised(error)
        finally:
            if self._threaded is not None:
                self._threaded.withdraw()
            self._stopped.set()
            if self.still_runs:
                work.runtime.leave_running(work.call.pk, lambda: self.still_runs)
            if self._progress:
                await asyncio.gather(*self._progress, return_exceptions=True)

    def _in_thread(self, body: Callable[[], Any]) -> ThreadedBody | None:
        """Return a sync body as its thread gets it; an atomic one binds anew at each try: only rows are rolled back."""
        work, limit = self._work, get_settings().result_limit
        if work.tool.effect is not EffectKind.ATOMIC:
            return None if work.tool.is_async else ThreadedBody(body)

        def bind() -> Callable[[], Any]:
            self.user, self._shown = copy.copy(work.run.user), []
            again = work.tool.bind(work.call.arguments_json, self)
            return lambda: foreign.bounded(again(), limit)

        return AtomicBody(bind, lambda value: work.record(value, self._shown))

    def _never_began(self) -> bool:
        if self._threaded is None:
            return False
        self._threaded.withdraw()
        return not self._threaded.begun

    def _raised(self, error: BaseException) -> CallOutcome:
        if isinstance(error, BrokeOff) and error.__cause__ is not None:
            error = error.__cause__
        reference = uuid7().hex[-8:]
        logger.error(
            "tool %s raised; reference %s",
            self._work.call.name,
            reference,
            extra=_about(self._work, "tool_raised"),
            exc_info=error,
        )
        return _broken_off(self._work, f"The tool broke off with {type(error).__name__} (reference {reference}).")

    def _show(self, value: Any) -> None:
        if self.cancelled:
            return  # the attempt has its outcome; a thread that could not be stopped says no more
        entry = Commit(events=[events.ToolProgress(self.call_id, value)])
        self._progress.append(self._loop.create_task(self._work.commit(entry)))  # type: ignore[arg-type]


def _not_begun(work: Work) -> CallOutcome:
    """A body that no thread was free for has done nothing; an earlier try, of an attempt that was interrupted, may."""
    error = (
        f"The tool did not start within {work.seconds:g} seconds: none of its worker's {APP_THREADS} threads was free. "
        "Look in the worker's log for tools that do not end, or start another worker."
    )
    return (
        _broken_off(work, error)
        if work.call.tries > 1
        else CallOutcome(ToolCallStatus.FAILED, error=error, began=False)
    )


def _broken_off(work: Work, error: str) -> CallOutcome:
    """A body that was not seen to end may have had its effect, unless it has none."""
    if work.tool.effect in LEAVES_NOTHING:
        return CallOutcome(ToolCallStatus.FAILED, error=error)
    return CallOutcome(ToolCallStatus.EFFECT_UNVERIFIED, error=f"{error} {UNVERIFIED}")


def _is_being_ended(error: BaseException) -> bool:
    """Whether the call is cancelled because its run is being ended, and not by a library of the application's own."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def _about(work: Work, action: str) -> dict[str, Any]:
    return {"run_id": str(work.run.pk), "attempt": work.call.attempt, "action": action}
