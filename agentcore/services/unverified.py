"""Calls that may have happened: a person says which, and the run goes on, or may be retried where it has ended."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from django.db import transaction

from ..access import SYSTEM, get_policy, name_of
from ..database.again import unit
from ..engine import transitions
from ..exceptions import AlreadyDecided, Invalid, NotAllowed, NotFound, RunEnded
from ..journal import fence
from ..journal.commit import Commit, Held, Move
from ..models import Run, ToolCall
from ..states import RunStatus, ToolCallStatus
from ..streams import log
from ..values import events
from . import approvals, runs, sizes
from .twins import twin

Answer = Literal["happened", "run_again", "give_up"]
ANSWERS: tuple[Answer, ...] = ("happened", "run_again", "give_up")
AFTER_THE_END: tuple[Answer, ...] = ("happened", "give_up")


@unit
def resolve(
    run: Run | UUID | str, call_id: str, answer: Answer, *, user: Any, result: Any = None, reason: str = ""
) -> ToolCall:
    """Say of a call in `effect_unverified` that it happened (with its result), may run again, or is given up.

    A run that has ended stays as it is, and so does its log: the call is answered,
    the thread's log says so, and the run may be retried. Such a call cannot `run_again`.

    Needs the right to decide approvals. Raises `NotFound`, `NotAllowed`, `Invalid`,
    `RunEnded`, or `AlreadyDecided` where somebody has answered.
    """
    if answer not in ANSWERS:
        raise Invalid(f"The answer must be one of {', '.join(ANSWERS)}.")
    reason = sizes.line(reason, "reason", sizes.LONGEST_REASON)
    sizes.result(result)
    found = runs.get(run, user=user)
    with transaction.atomic():
        held = fence.hold(found.pk, tuple(RunStatus))
        call = ToolCall.objects.filter(run=found, call_id=call_id).first()
        if call is None:
            raise NotFound
        if user is not SYSTEM and not get_policy().may_resolve(user, call):
            raise NotAllowed("You may see this call, but not say what became of it.")
        if call.status != ToolCallStatus.EFFECT_UNVERIFIED:
            raise AlreadyDecided("This call does not wait for an answer.")
        if held is None:
            raise NotFound
        commit = _answered(found, call, answer, result, reason)
        status = commit.moves[0].values["status"]
        said = events.ThreadCall(str(found.pk), call.call_id, call.name, status, name_of(user))
        if not held.status.terminal:
            approvals.record(held, commit.and_then(Commit(thread_events=[said])))
        elif answer in AFTER_THE_END:
            _record_after_the_end(held, call, commit.moves[0], said)
        else:
            raise RunEnded("The run has ended, so its call cannot run again. Say what became of it, then retry it.")
        return ToolCall.objects.select_related("run").get(pk=call.pk)


def _record_after_the_end(held: Held, call: ToolCall, answered: Move, said: events.ThreadCall) -> None:
    """Record an answer on an ended run: nothing follows `done` in the run's log, so only the thread's log says it."""
    rows = ToolCall.objects.filter(pk=call.pk, status=answered.source.value)
    if not rows.update(**{**answered.values, "finished_at": held.now}):
        raise AlreadyDecided("This call does not wait for an answer.")
    log.append(held.thread_stream_id, [said.encode])


def _answered(run: Run, call: ToolCall, answer: Answer, result: Any, reason: str) -> Commit:
    if answer == "happened":
        return transitions.close_call(run, call, ToolCallStatus.SUCCEEDED, result=result)
    if answer == "give_up":
        error = "It is not known whether the call took effect; it was given up." + (f" {reason}" if reason else "")
        return transitions.close_call(run, call, ToolCallStatus.FAILED, error=error)
    again = {"status": ToolCallStatus.PENDING.value, "error": ""}
    return Commit(moves=[Move(call, ToolCallStatus.EFFECT_UNVERIFIED, again)])


aresolve = twin(resolve)
