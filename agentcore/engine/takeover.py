"""What an attempt that ended in the middle left open, put in order by whoever has the run then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import UUID

from ..declaration.tool import EffectKind
from ..journal.commit import Commit, Move, combined
from ..models import Step, ToolCall
from ..states import StepKind, StepStatus, ToolCallStatus
from ..values import events, jsontext
from ..values.clock import NOW
from ..values.finish import FinishReason

DOUBT = "It is not known whether it took effect; a person will say. Do not repeat it."
INTERRUPTED = f"The call was interrupted. {DOUBT}"
"""What everybody reads of a call whose end nobody saw; whoever may answer reads the call's `question` as well."""


def left_open(
    run_id: UUID, attempt: int, code: str, still_runs: Callable[[UUID], bool] = lambda call: False
) -> Commit | None:
    """Return the entry that settles a run's open step and running calls, read from its rows; None where none is.

    `still_runs` tells of a call whether a thread of this process is still busy with it.
    """
    entries = list(_settled(run_id, attempt, code, still_runs))
    return combined(entries) if entries else None


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
) -> Commit:
    """Return the entry that gives up an open step; a model step's draft is void for every reader."""
    values = {
        "status": StepStatus.FAILED.value,
        "error_code": code,
        "error_message": jsontext.clean_text(message),
        "error_detail": jsontext.clean_text(detail),
        "finish_reason": finish_reason or "",
        "finished_at": NOW,
    }
    reset = [events.StepReset(step.number, attempt, code)] if step.kind == StepKind.MODEL else []
    return Commit(events=reset, moves=[Move(step, StepStatus.STARTED, values)])


def interrupted(call: ToolCall, *, still_runs: bool = False) -> Commit:
    """Return the entry for a call whose outcome nobody saw.

    What may be repeated goes back to pending, under the same key. An unsafe call
    may have happened: it is neither repeated nor called failed; a person decides.
    So does one for a checkable call that `still_runs`: its check cannot see yet what it is about to do.
    """
    if call.effect == EffectKind.UNSAFE or (call.effect == EffectKind.CHECKABLE and still_runs):
        return unverified(call, INTERRUPTED)
    return Commit(moves=[Move(call, ToolCallStatus.RUNNING, {"status": ToolCallStatus.PENDING.value})])


def unverified(call: ToolCall, error: str) -> Commit:
    """Return the entry that leaves an open call to a person: it may have happened."""
    unknown = ToolCallStatus.EFFECT_UNVERIFIED.value
    return Commit(
        events=[events.ToolResult(call.call_id, call.name, unknown, error=error)],
        moves=[Move(call, ToolCallStatus(call.status), {"status": unknown, "error": error})],
    )
