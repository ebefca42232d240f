"""Give a run up for now: it waits for a person, or for a better time."""

from __future__ import annotations

from collections.abc import Sequence

from ..journal.commit import Check, Commit, RunRow
from ..models import ToolCall
from ..states import BLOCKED_CALL_STATUSES, WAITS_FOR, RunStatus, ToolCallStatus
from ..values import events
from ..values.clock import Later


def waiting(row: RunRow, blocked: Sequence[ToolCall], *, suspect: bool) -> Commit:
    """Return the entry that makes the run wait, in the transaction that still finds every one of `blocked` open.

    It raises `Moved` where a decision has landed meanwhile: the fenced UPDATE locks
    the run first, as a decision does, so no wake-up can fall in between. A cancel
    that has landed refuses it: nobody would look at it while the run waits.
    """
    reasons = sorted({WAITS_FOR[ToolCallStatus(call.status)].value for call in blocked})
    still_open = ToolCall.objects.filter(run_id=row.run_id, status__in=BLOCKED_CALL_STATUSES)
    runnable = ToolCall.objects.filter(run_id=row.run_id, status=ToolCallStatus.PENDING)
    return Commit(
        events=[events.RunWaiting(reasons)],
        run={"status": RunStatus.WAITING.value, "alone": suspect},
        checks=[Check(still_open, len(blocked)), Check(runnable, 0)],
        starts=True,
        thread_events=[row.changed(RunStatus.WAITING)],
    )


def released(row: RunRow, reason: str, *, suspect: bool, delay: float = 0.0) -> Commit:
    """Return the entry that gives the run back; it is due again after `delay` seconds, or at once."""
    return Commit(
        events=[events.RunReleased(reason, Later(delay) if delay else None)],
        run={"status": RunStatus.PENDING.value, "alone": suspect, **({"available_in": delay} if delay else {})},
        starts=True,
        thread_events=[row.changed(RunStatus.PENDING)],
    )
