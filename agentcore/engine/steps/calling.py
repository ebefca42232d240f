"""A call while it runs: what its tool's body is given, its timeout, its retries, and what its end means."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ...conf import get_settings
from ...database.outage import is_refusal
from ...declaration.tool import LEAVES_NOTHING, EffectKind
from ...exceptions import EffectUnknown, ModelRetry, NotKept, NotRun, ToolFailed, Unfinished
from ...failpoints import afailpoint
from ...journal.commit import Commit
from ...states import ToolCallStatus
from ...values import bounded, jsontext
from ...values.functions import kind_of
from ...values.ids import uuid7
from ...values.logextra import log_extra
from .. import application, transitions
from ..threads import APP_THREADS
from .body import AtomicBody, Body, BodyInThread, BodyOnLoop, Work
from .intake import checked
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
    """Run the body once and say how it ended; where it broke off, its check may know more."""
    ctx = RunningCall(work)
    try:
        body = await _bound(work, ctx)
    except NotKept as error:
        outcome, unsettled = _not_kept(work, error), False
    else:
        outcome = await _run(work, ctx, body)
        unsettled = body.runs  # before the check, for what ends meanwhile may have come too late for it
    if not outcome.broke_off or work.tool.check is None:
        return outcome
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
        about = log_extra("check_failed", work.run.pk, work.call.attempt)
        logger.exception("the check of tool %s failed", work.call.name, extra=about)
        kind = kind_of(application.cause_of(error))
        raise _Unchecked(f"Whether it took effect could not be checked ({kind}).") from error
    finally:
        await ctx.shown.end()


async def _bound(work: Work, ctx: RunningCall) -> Body:
    """Return the body with its arguments; an atomic one binds anew at each try, for only rows are rolled back."""
    tool, arguments = work.tool, work.call.arguments_json
    function = await checked(work.runtime, tool.signature.arguments, lambda: tool.bind(arguments, ctx))
    if tool.effect is not EffectKind.ATOMIC:
        return BodyOnLoop(work, function) if tool.is_async else BodyInThread(work, function)

    def once_more() -> Any:
        # What it shows is committed with the rest, or not at all.
        ctx.user, ctx.shown = copy.copy(work.run.user), Progress(ctx.call_id)
        return tool.bind(arguments, ctx)()

    return AtomicBody(work, once_more, lambda value: work.record(value, ctx.shown.take()))


async def _run(work: Work, ctx: RunningCall, body: Body) -> CallOutcome:
    """Run the body and say how it ended.

    What a body says with `ToolFailed` or `ModelRetry` is that it has failed. Another exception is an
    answer too (see `_raised`); what ended without one may have had its effect, unless it has none.
    """
    limit = asyncio.timeout(work.seconds)
    try:
        async with limit:
            await afailpoint("in_tool")
            value = await body.run(limit)
            return CallOutcome(ToolCallStatus.SUCCEEDED, value, recorded=body.recorded)
    except (ToolFailed, ModelRetry) as error:
        said = jsontext.shorten(error.message, 2000)
        return CallOutcome(ToolCallStatus.FAILED, error=said, final=isinstance(error, ModelRetry))
    except NotRun as error:
        return _not_run(work, body, error)
    except (Exception, asyncio.CancelledError) as error:
        if body.is_lost(error) or application.is_being_ended(error):
            raise
        if not limit.expired():
            return _raised(work, body, application.cause_of(error))
        if not body.begun:
            return _not_begun(work)
        return _unknown(work, f"The tool did not end within {work.seconds:g} seconds.")
    finally:
        ctx.cancelled = True
        await ctx.shown.end()


class RunningCall:
    """One attempt at a call: the `ToolContext` its body is given."""

    def __init__(self, work: Work) -> None:
        self.run_id = work.run.pk
        self.thread_id = work.run.thread_id
        self.user = work.run.user
        self.call_id = work.call.call_id
        self.idempotency_key = str(work.call.pk)
        self.attempt = work.call.attempt
        self.cancelled = False
        self.shown = Progress(self.call_id, work.commit)

    def progress(self, value: Any) -> None:
        """Show JSON data to the people who watch the run; any thread may call this.

        Once the attempt has its outcome, a thread that could not be stopped shows no more.
        """
        if not self.cancelled:
            self.shown.show(bounded.cut(value, get_settings().result_limit))


def _raised(work: Work, body: Body, error: BaseException) -> CallOutcome:
    """Say what an exception of the body means: a failure, or a question to a person.

    A person is asked where the tool says so, where the body does not know itself, and where a person
    approved an unsafe call; not of what leaves nothing behind, nor of what the database has refused.
    """
    reference, about = uuid7().hex[-8:], log_extra("tool_raised", work.run.pk, work.call.attempt)
    logger.error("tool %s raised; reference %s", work.call.name, reference, extra=about, exc_info=error)
    said = f"The tool broke off with {kind_of(error)} (reference {reference})."
    if isinstance(error, EffectUnknown):
        said = jsontext.shorten(error.message, 2000)
    elif isinstance(error, Unfinished):
        said = _with_advice(body, error)
    refused = is_refusal(error)
    if refused:
        said += " The database refused it."
    promised = work.approved and work.tool.effect is EffectKind.UNSAFE and not refused
    if isinstance(error, EffectUnknown) or work.tool.on_error == "ask" or promised:
        return _unknown(work, said)
    in_part = "" if work.tool.effect in LEAVES_NOTHING else f" {IN_PART}"
    final = isinstance(error, Unfinished)  # the developer's mistake: it would be the same again
    return CallOutcome(ToolCallStatus.FAILED, error=f"{said}{in_part}", broke_off=True, final=final)


def _not_run(work: Work, body: Body, error: NotRun) -> CallOutcome:
    """Fail a call whose body gave back itself, not begun: that is its developer's mistake."""
    about = log_extra("tool_not_run", work.run.pk, work.call.attempt)
    logger.error("tool %s: %s", work.call.name, error.message, extra=about)
    return CallOutcome(ToolCallStatus.FAILED, error=_with_advice(body, error), final=True)


def _with_advice(body: Body, error: NotRun | Unfinished) -> str:
    return error.message + (body.on_awaiting if bounded.AWAIT in error.message else "")


def _not_kept(work: Work, error: NotKept) -> CallOutcome:
    """Fail a call whose arguments the tool refuses by now; one that ran before may have had its effect then."""
    about = log_extra("arguments_not_kept", work.run.pk, work.call.attempt)
    logger.error("tool %s: %s", work.call.name, error, extra=about)
    fault = "The tool does not take these arguments any more."
    return _unknown(work, fault) if work.call.tries > 1 else CallOutcome(ToolCallStatus.FAILED, error=fault)


def _not_begun(work: Work) -> CallOutcome:
    """A body that no thread was free for has done nothing; an earlier try, of an attempt that was interrupted, may."""
    logger.error(
        "tool %s did not start: none of the %s threads was free. Look for tools that do not end, or start more workers",
        work.call.name,
        APP_THREADS,
        extra=log_extra("tool_not_begun", work.run.pk, work.call.attempt),
    )
    error = f"The tool did not start within {work.seconds:g} seconds."
    return (
        _unknown(work, error) if work.call.tries > 1 else CallOutcome(ToolCallStatus.FAILED, error=error, began=False)
    )


def _unknown(work: Work, error: str) -> CallOutcome:
    """Return the outcome of a call that may have taken effect: unverified, or failed for a tool that leaves nothing."""
    if work.tool.effect in LEAVES_NOTHING:
        return CallOutcome(ToolCallStatus.FAILED, error=error, broke_off=True)
    return CallOutcome(ToolCallStatus.EFFECT_UNVERIFIED, error=f"{error} {transitions.DOUBT}", broke_off=True)
