"""A call while it runs: what its tool's body is given, its timeout, its retries, and what its end means."""

from __future__ import annotations

import asyncio
import copy
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ...conf import get_settings
from ...database.outage import is_refusal
from ...declaration.tool import LEAVES_NOTHING, EffectKind, Tool
from ...exceptions import EffectUnknown, ModelRetry, NotKept, NotRun, ToolFailed, Unfinished
from ...failpoints import afailpoint
from ...journal.commit import Commit
from ...models import Run, ToolCall
from ...states import ToolCallStatus
from ...values import bounded, events, jsontext
from ...values.functions import kind_of
from ...values.ids import uuid7
from .. import application, transitions
from ..runtime import Runtime
from ..threads import APP_THREADS, AppCall, contained
from .atomic import AtomicBody
from .checking import checked
from .progress import Progress

logger = logging.getLogger("agentcore.engine")


@dataclass(frozen=True)
class CallOutcome:
    """How a call ended: succeeded, failed or effect_unverified.

    `broke_off` says that it did so by an exception or its time, so that its own check may say more;
    `final`, that no repetition can make it better; `recorded` is what was committed with its body.
    """

    status: ToolCallStatus
    result: Any = None
    error: str = ""
    began: bool = True
    broke_off: bool = False
    final: bool = False
    recorded: Commit | None = None


@dataclass(frozen=True)
class Work:
    """A call that has started, and what it takes to run its body; `approved` says that a person agreed to it."""

    run: Run
    call: ToolCall
    tool: Tool
    approved: bool
    runtime: Runtime
    commit: Callable[[Commit], Awaitable[None]]
    record: Callable[[Any, Sequence[events.Event]], Commit]

    @property
    def seconds(self) -> float:
        """How long one attempt may take."""
        return self.tool.timeout if self.tool.timeout is not None else get_settings().tool_timeout

    def read(self, value: Any) -> Any:
        """Make what the body gave back JSON of a bounded size: it may be anything."""
        return bounded.result(value, get_settings().result_limit, function=self.tool.function)

    async def invoke(self, body: Callable[[], Any], threaded: AppCall | None) -> Any:
        """Call the body on the loop or as it goes through a thread, and read what it gives back."""
        threads = self.runtime.threads
        value = await threads.call(threaded) if threaded is not None else contained(body)
        return await application.finished(threads, value, self.read)


NOTHING_HAPPENED = "The tool broke off, and its own check says that nothing happened."
IN_PART = "It may have acted in part before that."


async def execute(work: Work) -> CallOutcome:
    """Run the body, again if its `retries` say so; never raises for what a tool does.

    Before a `Checkable` is repeated, and after it broke off, its check tells whether it happened.
    While its body still runs in a thread, only a check that finds it done says anything.
    """
    if work.call.tries > 1 and work.tool.check is not None:
        try:
            happened = await _look_up(work, work.tool.check)
        except _Unchecked as error:
            return _unknown(work, str(error))
        if happened is not None:
            return happened
    outcome = await _once(work)
    for _ in range(work.tool.retries):
        unknown = outcome.status is ToolCallStatus.EFFECT_UNVERIFIED
        done = outcome.final or outcome.status is ToolCallStatus.SUCCEEDED
        if done or (unknown and work.tool.effect is not EffectKind.IDEMPOTENT):
            break
        repeated = await _once(work)
        if unknown and not repeated.began:
            break  # what is not known of an earlier attempt stays so
        outcome = repeated
    return outcome


async def _once(work: Work) -> CallOutcome:
    attempt = RunningCall(work)
    outcome = await attempt.run_body()
    if not outcome.broke_off or work.tool.check is None:
        return outcome
    unsettled = attempt.still_runs  # before the check, for what ends meanwhile may have come too late for it
    try:
        happened = await _look_up(work, work.tool.check)
    except _Unchecked as error:
        return replace(outcome, error=f"{outcome.error} {error}", final=True)
    if happened is not None:
        return happened
    return outcome if unsettled else CallOutcome(ToolCallStatus.FAILED, error=NOTHING_HAPPENED, broke_off=True)


class _Unchecked(Exception):
    """A check has failed, and tells nothing."""


async def _look_up(work: Work, check: Callable[..., Any]) -> CallOutcome | None:
    """Return how an earlier attempt ended, None if it did not happen; raises `_Unchecked` where the check fails."""
    ctx, arguments = RunningCall(work), work.call.arguments_json
    try:
        async with asyncio.timeout(work.seconds):
            value = await application.call(work.runtime.threads, check, arguments, ctx, read=work.read)
            return None if value is None else CallOutcome(ToolCallStatus.SUCCEEDED, value)
    except Exception as error:
        logger.exception("the check of tool %s failed", work.call.name, extra=_about(work, "check_failed"))
        kind = kind_of(application.cause_of(error))
        raise _Unchecked(f"Whether it took effect could not be checked ({kind}).") from error
    finally:
        await ctx.end_progress()


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
        self._stopped = threading.Event()
        self._progress = self._new_progress()
        self._threaded: AppCall | None = None

    @property
    def cancelled(self) -> bool:
        """Whether this attempt is being ended; a long tool looks now and then, and stops."""
        return self._stopped.is_set()

    @property
    def still_runs(self) -> bool:
        """Whether a thread is still busy with its body, though nobody waits for it."""
        return self._threaded is not None and self._threaded.runs

    def progress(self, value: Any) -> None:
        """Show JSON data to the people who watch the run; any thread may call this.

        Once the attempt has its outcome, a thread that could not be stopped shows no more.
        """
        if not self.cancelled:
            self._progress.show(bounded.cut(value, get_settings().result_limit))

    async def end_progress(self) -> None:
        """Write what was shown until now."""
        await self._progress.end()

    def _new_progress(self) -> Progress:
        """Return where a body's progress goes; that of an atomic one is committed with the rest, or not at all."""
        atomic = self._work.tool.effect is EffectKind.ATOMIC
        return Progress(self.call_id, None if atomic else self._work.commit)

    async def run_body(self) -> CallOutcome:
        """Run the body once and say how it ended.

        What a body says with `ToolFailed` or `ModelRetry` is that it has failed. Another exception is an
        answer too (see `_raised`); what ended without one may have had its effect, unless it has none.
        """
        work = self._work
        try:
            arguments, conversion = work.call.arguments_json, work.tool.signature.arguments
            body = await checked(work.runtime, conversion, lambda: work.tool.bind(arguments, self))
        except NotKept as error:
            logger.error("tool %s: %s", work.call.name, error, extra=_about(work, "arguments_not_kept"))
            fault = "The tool does not take these arguments any more."
            # One that ran before and was interrupted may have had its effect then.
            return _unknown(work, fault) if work.call.tries > 1 else CallOutcome(ToolCallStatus.FAILED, error=fault)
        self._threaded = self._in_thread(body)
        limit = asyncio.timeout(work.seconds)
        try:
            async with limit:
                await afailpoint("in_tool")
                if isinstance(self._threaded, AtomicBody):
                    await self._threaded.ended(work.runtime.threads.call(self._threaded), limit)
                    return CallOutcome(ToolCallStatus.SUCCEEDED, recorded=self._threaded.recorded)
                value = await work.invoke(body, self._threaded)
                return CallOutcome(ToolCallStatus.SUCCEEDED, value)
        except (ToolFailed, ModelRetry) as error:
            said = jsontext.shorten(error.message, 2000)
            return CallOutcome(ToolCallStatus.FAILED, error=said, final=isinstance(error, ModelRetry))
        except NotRun as error:
            return self._not_run(error)
        except (Exception, asyncio.CancelledError) as error:
            lost = isinstance(self._threaded, AtomicBody) and self._threaded.is_unknown(error)
            if lost or application.is_being_ended(error):
                raise
            if limit.expired():
                if self._never_began():
                    return _not_begun(work)
                return _unknown(work, f"The tool did not end within {work.seconds:g} seconds.")
            return self._raised(application.cause_of(error))
        finally:
            self._stopped.set()
            await self.end_progress()

    def _in_thread(self, body: Callable[[], Any]) -> AppCall | None:
        """Return a sync body as its thread gets it; an atomic one binds anew at each try: only rows are rolled back."""
        work = self._work
        if work.tool.effect is not EffectKind.ATOMIC:
            # What is lazy acts when it is read: until then its thread is busy with the body.
            return None if work.tool.is_async else AppCall(partial(application.at_once, body, work.read), work.call.pk)

        def bind() -> Callable[[], Any]:
            self.user, self._progress = copy.copy(work.run.user), self._new_progress()
            again = work.tool.bind(work.call.arguments_json, self)
            return lambda: work.read(again())

        return AtomicBody(bind, lambda value: work.record(value, self._progress.take()), work.call.pk)

    def _never_began(self) -> bool:
        return self._threaded is not None and not self._threaded.begun

    def _raised(self, error: BaseException) -> CallOutcome:
        """Say what an exception of the body means: a failure, or a question to a person.

        A person is asked where the tool says so, where the body does not know itself, and where a person
        approved an unsafe call; not of what leaves nothing behind, nor of what the database has refused.
        """
        work, reference = self._work, uuid7().hex[-8:]
        logger.error(
            "tool %s raised; reference %s",
            work.call.name,
            reference,
            extra=_about(work, "tool_raised"),
            exc_info=error,
        )
        said = f"The tool broke off with {kind_of(error)} (reference {reference})."
        if isinstance(error, EffectUnknown):
            said = jsontext.shorten(error.message, 2000)
        elif isinstance(error, Unfinished):
            said = f"{error.message}{self._on_awaiting(error)}"
        refused = is_refusal(error)
        if refused:
            said += " The database refused it."
        promised = work.approved and work.tool.effect is EffectKind.UNSAFE and not refused
        if isinstance(error, EffectUnknown) or work.tool.on_error == "ask" or promised:
            return _unknown(work, said)
        in_part = "" if work.tool.effect in LEAVES_NOTHING else f" {IN_PART}"
        final = isinstance(error, Unfinished)  # the developer's mistake: it would be the same again
        return CallOutcome(ToolCallStatus.FAILED, error=f"{said}{in_part}", broke_off=True, final=final)

    def _not_run(self, error: NotRun) -> CallOutcome:
        """Fail a call whose body gave back itself, not begun: that is its developer's mistake."""
        logger.error("tool %s: %s", self._work.call.name, error.message, extra=_about(self._work, "tool_not_run"))
        return CallOutcome(ToolCallStatus.FAILED, error=f"{error.message}{self._on_awaiting(error)}", final=True)

    def _on_awaiting(self, error: NotRun | Unfinished) -> str:
        is_atomic = isinstance(self._threaded, AtomicBody) and bounded.AWAIT in error.message
        return " An atomic tool awaits nothing: its transaction is sync." if is_atomic else ""


def _not_begun(work: Work) -> CallOutcome:
    """A body that no thread was free for has done nothing; an earlier try, of an attempt that was interrupted, may."""
    logger.error(
        "tool %s did not start: none of the %s threads was free. Look for tools that do not end, or start more workers",
        work.call.name,
        APP_THREADS,
        extra=_about(work, "tool_not_begun"),
    )
    error = f"The tool did not start within {work.seconds:g} seconds."
    return (
        _unknown(work, error) if work.call.tries > 1 else CallOutcome(ToolCallStatus.FAILED, error=error, began=False)
    )


def _unknown(work: Work, error: str) -> CallOutcome:
    """A call of which nobody knows whether it took effect, unless it can have none."""
    if work.tool.effect in LEAVES_NOTHING:
        return CallOutcome(ToolCallStatus.FAILED, error=error, broke_off=True)
    return CallOutcome(ToolCallStatus.EFFECT_UNVERIFIED, error=f"{error} {transitions.DOUBT}", broke_off=True)


def _about(work: Work, action: str) -> dict[str, Any]:
    return {"run_id": str(work.run.pk), "attempt": work.call.attempt, "action": action}
