"""Give a run up for now: it waits for a person, or for a better time."""

from __future__ import annotations

from collections.abc import Sequence

from .. import events
from ..clock import Later
from ..models import ToolCall
from ..states import BLOCKED_CALL_STATUSES, WAITS_FOR, RunStatus, ToolCallStatus
from . import journal
from .claim import Claim
from .journal import Check, Commit


def suspend(claim: Claim, blocked: Sequence[ToolCall]) -> None:
    """Make the run wait, inside the transaction that still finds every one of `blocked` open.

    Raises `journal.Moved` where a decision has landed meanwhile: the fenced UPDATE
    locks the run first, as a decision does, so no wake-up can fall in between. A
    cancel that has landed is `CancelRequested`: nobody would look at it while the run waits.
    """
    reasons = sorted({WAITS_FOR[ToolCallStatus(call.status)].value for call in blocked})
    still_open = ToolCall.objects.filter(run_id=claim.run_id, status__in=BLOCKED_CALL_STATUSES)
    runnable = ToolCall.objects.filter(run_id=claim.run_id, status=ToolCallStatus.PENDING)
    entry = Commit(
        events=[events.RunWaiting(reasons)],
        run={"status": RunStatus.WAITING.value},
        checks=[Check(still_open, len(blocked)), Check(runnable, 0)],
        starts=True,
        thread_events=[claim.changed(RunStatus.WAITING)],
    )
    journal.commit(claim, entry)


def release(claim: Claim, reason: str, delay: float = 0.0) -> None:
    """Give the run back at a step boundary; it is due again after `delay` seconds, or at once."""
    due = Later(delay) if delay else None
    entry = Commit(
        events=[events.RunReleased(reason, due)],
        run={"status": RunStatus.PENDING.value, "available_at": due},
        starts=True,
        thread_events=[claim.changed(RunStatus.PENDING)],
    )
    journal.commit(claim, entry)
