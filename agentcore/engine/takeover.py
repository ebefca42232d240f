"""What a dead attempt left open, put in order by the attempt that takes over."""

from __future__ import annotations

from uuid import UUID

from .. import events, jsontext
from ..clock import NOW
from ..models import Step, ToolCall
from ..states import StepKind, StepStatus, ToolCallStatus
from ..tools import EffectKind
from . import journal
from .claim import Claim
from .journal import Change, Commit, Move
from .snapshot import WORKER_LOST


def claim(run_id: UUID, worker: str) -> Claim | None:
    """Claim a run for `worker` and settle what its last attempt left; None where there is nothing to do."""
    return journal.claim(run_id, worker, _settle)


def _settle(claim: Claim) -> Commit:
    entry = Commit()
    for step in Step.objects.filter(run_id=claim.run_id, status=StepStatus.STARTED):
        entry = entry.and_then(abandon(step, claim.attempt, WORKER_LOST))
    for call in ToolCall.objects.filter(run_id=claim.run_id, status=ToolCallStatus.RUNNING).order_by("position"):
        entry = entry.and_then(interrupted(call))
    return entry


def abandon(step: Step, attempt: int, code: str, message: str = "") -> Commit:
    """Return the entry that gives up an open step; a model step's draft is void for every reader."""
    rows = Step.objects.filter(pk=step.pk, status=StepStatus.STARTED)
    values = {
        "status": StepStatus.FAILED.value,
        "error_code": code,
        "error_message": jsontext.clean_text(message),
        "finished_at": NOW,
    }
    reset = [events.StepReset(step.number, attempt, code)] if step.kind == StepKind.MODEL else []
    return Commit(events=reset, changes=[Change(rows, values, expect=1)])


def interrupted(call: ToolCall) -> Commit:
    """Return the entry for a call whose outcome nobody saw.

    What may be repeated goes back to pending, under the same key. An unsafe call
    may have happened: it is neither repeated nor called failed; a person decides.
    """
    if call.effect == EffectKind.UNSAFE:
        return unverified(call, UNVERIFIED)
    return Commit(moves=[Move(call, ToolCallStatus.RUNNING, {"status": ToolCallStatus.PENDING.value})])


def unverified(call: ToolCall, error: str) -> Commit:
    """Return the entry that leaves a running call to a person: it may have happened."""
    unknown = ToolCallStatus.EFFECT_UNVERIFIED.value
    return Commit(
        events=[events.ToolResult(call.call_id, call.name, unknown, error=error)],
        moves=[Move(call, ToolCallStatus.RUNNING, {"status": unknown, "error": error})],
    )


UNVERIFIED = "The call was interrupted; nobody knows yet whether it took effect. Do not repeat it."
