"""The end of a run: one entry that leaves nothing open, whoever writes it."""

from __future__ import annotations

import json
from uuid import UUID

from ..declaration.tool import LEAVES_NOTHING
from ..journal.commit import Change, Commit, Move, RunRow, Saved, combined
from ..models import Approval, Message, Run, Step, ToolCall
from ..models.message import compose
from ..states import ApprovalStatus, RunStatus, StepStatus, ToolCallStatus
from ..values import events, jsontext
from ..values.clock import NOW
from ..values.finish import FinishReason
from ..values.parts import ToolResultPart
from .takeover import INTERRUPTED

LONGEST_DETAIL = 10_000
NOT_RUN = "The run ended before this call was run."


def end(row: RunRow, run: Run, status: RunStatus, *, code: str = "", message: str = "", detail: str = "") -> Commit:
    """Return the entry that ends a run: a result for every open call, no open step or approval, `done` last."""
    calls = ToolCall.objects.filter(run_id=run.pk).open().order_by("created_at", "position")
    return combined(
        [
            _close_step(run.pk),
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
    """Return the entry that ends a run of which nothing is open, or is closed by the same commit.

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


def close_call(run: Run, call: ToolCall, status: ToolCallStatus, *, result: object = None, error: str = "") -> Commit:
    """Return the entry that gives a call its one result: event, message and row."""
    error = jsontext.clean_text(error)
    stored = "" if result is None else jsontext.canonical(result)
    values = {
        "status": status.value,
        "result": stored,
        "error": error,
        "finished_at": None if status is ToolCallStatus.EFFECT_UNVERIFIED else NOW,
    }
    result = json.loads(stored) if stored else None
    part = ToolResultPart(call.call_id, call.name, status.value, result, error, call.edited)
    return Commit(
        events=[
            events.ToolResult(call.call_id, call.name, status.value, result, error or None, call.edited),
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


def _close_step(run_id: UUID) -> Commit:
    rows = Step.objects.filter(run_id=run_id, status=StepStatus.STARTED)
    values = {"status": StepStatus.FAILED.value, "error_code": "run_ended", "finished_at": NOW}
    return Commit(changes=[Change(rows, values)])


def _close_call(run: Run, call: ToolCall) -> Commit:
    """A call that may have happened stays unverified, also when its run has ended."""
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
    """Return the entry that closes an approval without a person's decision."""
    call = approval.tool_call
    values = {"status": status.value, "decided_at": NOW, "reason": reason}
    return Commit(
        events=[events.ApprovalResponse(str(approval.pk), call.call_id, status.value, "", reason)],
        moves=[Move(approval, ApprovalStatus(approval.status), values)],
        thread_events=[
            events.ThreadApproval(str(approval.pk), str(approval.run_id), call.call_id, call.name, status.value, "")
        ],
    )
