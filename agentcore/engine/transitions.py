"""What one transaction says when a run waits, goes on, is given back, is settled after a broken attempt, or ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from uuid import UUID

from ..declaration.tool import LEAVES_NOTHING, EffectKind
from ..journal.commit import Claim, Commit, Move, RunRow, Saved, combined
from ..models import Approval, Message, Run, Step, ToolCall
from ..models.message import compose
from ..states import (
    WAITS_FOR,
    ApprovalStatus,
    RunStatus,
    StepKind,
    StepStatus,
    ToolCallStatus,
)
from ..values import events, jsontext
from ..values.clock import NOW, Later
from ..values.finish import FinishReason
from ..values.parts import ToolResultPart

DOUBT = "It is not known whether it took effect; a person will say. Do not repeat it."
INTERRUPTED = f"The call was interrupted. {DOUBT}"
"""The API shows everybody this sentence of an interrupted call, and the call's `question` to those who may answer."""
LONGEST_DETAIL = 10_000
NOT_RUN = "The run ended before this call was run."


def begun(claim: Claim) -> Commit:
    """Return the commit that tells of a claim."""
    return Commit(events=[events.RunStarted(claim.attempt)], thread_events=[claim.changed(RunStatus.RUNNING)])


def waiting(row: RunRow, blocked: Sequence[ToolCall], *, suspect: bool) -> Commit:
    """Return the commit that makes the run wait, in the transaction that still finds every one of `blocked` open.

    It raises `Moved` where a decision has landed meanwhile: the fenced UPDATE locks
    the run first, as a decision does, so no wake-up can fall in between. A cancel
    that has landed refuses it: nobody would look at it while the run waits.
    """
    reasons = sorted({WAITS_FOR[ToolCallStatus(call.status)].value for call in blocked})
    return Commit(
        events=[events.RunWaiting(reasons)],
        run={"status": RunStatus.WAITING.value, "alone": suspect},
        # Each stays what it is: the move refuses the commit where somebody has decided it.
        moves=[Move(call, ToolCallStatus(call.status), {"status": call.status}) for call in blocked],
        starts=True,
        thread_events=[row.changed(RunStatus.WAITING)],
    )


def released(row: RunRow, reason: str, *, suspect: bool, delay: float = 0.0) -> Commit:
    """Return the commit that gives the run back; it is due again after `delay` seconds, or at once."""
    later = Later(delay) if delay else None
    return Commit(
        events=[events.RunReleased(reason, later)],
        run={"status": RunStatus.PENDING.value, "alone": suspect, **({"available_in": later.seconds} if later else {})},
        starts=True,
        thread_events=[row.changed(RunStatus.PENDING)],
    )


def resumed(row: RunRow) -> Commit:
    """Return the commit by which a waiting run goes on: it is pending, and due at once."""
    pending = RunStatus.PENDING
    return Commit(events=[events.RunResumed()], run={"status": pending.value}, thread_events=[row.changed(pending)])


def left_open(
    run_id: UUID, attempt: int, code: str, still_runs: Callable[[UUID], bool] = lambda call: False
) -> Commit | None:
    """Return the commit that settles a run's open step and running calls, read from its rows; None where none is.

    `still_runs` tells of a call whether a thread of this process is still busy with it.
    """
    commits = list(_settled(run_id, attempt, code, still_runs))
    return combined(commits) if commits else None


def _settled(run_id: UUID, attempt: int, code: str, still_runs: Callable[[UUID], bool]) -> Iterator[Commit]:
    for step in Step.objects.filter(run_id=run_id, status=StepStatus.STARTED):
        yield abandon(step, attempt, code)
    for call in ToolCall.objects.filter(run_id=run_id, status=ToolCallStatus.RUNNING).order_by("position"):
        yield interrupted(call, still_runs=still_runs(call.pk))


def abandon(
    step: Step,
    attempt: int,
    code: str,
    message: str = "",
    *,
    detail: str = "",
    finish_reason: FinishReason | None = None,
    passed_on: bool = False,
) -> Commit:
    """Return the commit that gives up an open step; a model step's draft is void for every reader."""
    values = {
        "status": StepStatus.FAILED.value,
        "error_code": code,
        "error_message": jsontext.clean_text(message),
        "error_detail": jsontext.clean_text(detail),
        "finish_reason": finish_reason or "",
        "finished_at": NOW,
        "passed_on": passed_on,
    }
    reset = [events.StepReset(step.number, attempt, code)] if step.kind == StepKind.MODEL else []
    return Commit(events=reset, moves=[Move(step, StepStatus.STARTED, values)])


def interrupted(call: ToolCall, *, still_runs: bool = False) -> Commit:
    """Return the commit for a call whose outcome nobody saw.

    What may be repeated goes back to pending, under the same key. An unsafe call
    may have happened: it is neither repeated nor called failed; a person decides.
    So does one for a checkable call that `still_runs`: its check cannot see yet what it is about to do.
    """
    if call.effect == EffectKind.UNSAFE or (call.effect == EffectKind.CHECKABLE and still_runs):
        return unverified(call, INTERRUPTED)
    return Commit(moves=[Move(call, ToolCallStatus.RUNNING, {"status": ToolCallStatus.PENDING.value})])


def unverified(call: ToolCall, error: str) -> Commit:
    """Return the commit that leaves an open call to a person: it may have happened."""
    unknown = ToolCallStatus.EFFECT_UNVERIFIED.value
    return Commit(
        events=[events.ToolResult(call.call_id, call.name, unknown, error=error)],
        moves=[Move(call, ToolCallStatus(call.status), {"status": unknown, "error": error})],
    )


def end(row: RunRow, run: Run, status: RunStatus, *, code: str = "", message: str = "", detail: str = "") -> Commit:
    """Return the commit that ends a run: a result for every open call, no open step or approval, `done` last."""
    calls = ToolCall.objects.filter(run_id=run.pk).open().order_by("created_at", "position")
    return combined(
        [
            *map(_close_step, Step.objects.filter(run_id=run.pk, status=StepStatus.STARTED)),
            *(_close_call(run, call) for call in calls),
            *_close_approvals(run.pk),
            over(row, status, code=code, message=message, detail=detail),
        ]
    )


def over(
    row: RunRow,
    status: RunStatus,
    *,
    code: str = "",
    message: str = "",
    detail: str = "",
    retry_after: float | None = None,
    finish_reason: FinishReason | None = None,
) -> Commit:
    """Return the commit that ends a run; its caller closes the open step, calls and approvals in the same transaction.

    The message is for whoever sees the run, the detail for operators only: it is in no
    event. `finish_reason` is that of the model's answer which ends it, where one does.
    """
    message = jsontext.clean_text(message)
    error = [events.Error(code, message, retry_after)] if status is RunStatus.FAILED else []
    return Commit(
        events=[*error, events.Done(status.value, finish_reason)],
        run={
            "status": status.value,
            "finish_reason": finish_reason or "",
            "error_code": code,
            "error_message": message,
            "error_detail": jsontext.shorten(jsontext.clean_text(detail), LONGEST_DETAIL),
            "retry_after": retry_after,
        },
        thread_events=[row.changed(status)],
    )


def refuse_call(run: Run, call: ToolCall, fault: str, code: str = "") -> Commit:
    """Return the commit for a call that is not run: with a guard's code it is denied, else it has failed."""
    return close_call(run, call, ToolCallStatus.DENIED if code else ToolCallStatus.FAILED, error=fault, code=code)


def close_call(
    run: Run, call: ToolCall, status: ToolCallStatus, *, result: object = None, error: str = "", code: str = ""
) -> Commit:
    """Return the commit that gives a call its one result: event, message and row."""
    error = jsontext.clean_text(error)
    stored = "" if result is None else jsontext.canonical(result)
    values = {
        "status": status.value,
        "result": stored,
        "error": error,
        "error_code": code,
        "finished_at": None if status is ToolCallStatus.EFFECT_UNVERIFIED else NOW,
    }
    result = json.loads(stored) if stored else None
    part = ToolResultPart(call.call_id, call.name, status.value, result, error, call.edited)
    return Commit(
        events=[
            events.ToolResult(call.call_id, call.name, status.value, result, error or None, call.edited, code or None),
            Saved(_told(run, call, part)),
        ],
        moves=[Move(call, ToolCallStatus(call.status), values)],
    )


def _told(run: Run, call: ToolCall, part: ToolResultPart) -> Message:
    """Return the message that tells a model what became of a call: exactly one for each."""
    message = compose(
        thread_id=run.thread_id,
        run_id=run.pk,
        order=run.order,
        step_order=0,
        author_kind="tool",
        author_name=call.name,
        tool_call=call,
    )
    message.parts = (part,)  # as the call's row has it once this is committed
    return message


def _close_step(step: Step) -> Commit:
    values = {"status": StepStatus.FAILED.value, "error_code": "run_ended", "finished_at": NOW}
    return Commit(moves=[Move(step, StepStatus.STARTED, values)])


def _close_call(run: Run, call: ToolCall) -> Commit:
    """Close a call at the end of its run; one that may have happened stays unverified."""
    # Begun, and interrupted: to be run again it is pending, but what its first try did is not known.
    begun = call.status in (ToolCallStatus.RUNNING, ToolCallStatus.PENDING) and call.tries > 0
    happened = begun and call.effect not in LEAVES_NOTHING
    if not happened and call.status != ToolCallStatus.EFFECT_UNVERIFIED:
        return close_call(run, call, ToolCallStatus.CANCELED, error=NOT_RUN)
    return close_call(run, call, ToolCallStatus.EFFECT_UNVERIFIED, error=call.error or INTERRUPTED)


def _close_approvals(run_id: UUID) -> list[Commit]:
    """Void what nobody has decided; the decisions taken stay as they are."""
    asked = Approval.objects.pending().filter(run_id=run_id).select_related("tool_call")
    return [void(approval, ApprovalStatus.CANCELED, "The run ended.") for approval in asked]


def void(approval: Approval, status: ApprovalStatus, reason: str) -> Commit:
    """Return the commit that closes an approval without a person's decision."""
    call = approval.tool_call
    values = {"status": status.value, "decided_at": NOW, "reason": reason}
    return Commit(
        events=[events.ApprovalResponse(str(approval.pk), call.call_id, status.value, "", reason)],
        moves=[Move(approval, ApprovalStatus(approval.status), values)],
        thread_events=[
            events.ThreadApproval(str(approval.pk), str(approval.run_id), call.call_id, call.name, status.value, "")
        ],
    )
