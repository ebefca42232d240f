"""The sweep: gives every ownerless live run a hint or an end. Safe to run anywhere, any number of times at once."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from .. import dispatch, events
from ..clock import NOW
from ..conf import get_settings
from ..engine import claim as claims
from ..engine import ending, journal
from ..models import Approval, Run
from ..states import RunStatus, WaitingReason
from . import approvals, runs

logger = logging.getLogger("agentcore.sweep")

BATCH = 200


@dataclass(frozen=True)
class SweepReport:
    """What one pass did."""

    hinted: int
    poisoned: int
    resumed: int
    expired: int

    @property
    def did_something(self) -> bool:
        """Whether there was anything to do."""
        return bool(self.hinted or self.poisoned or self.resumed or self.expired)


def sweep() -> SweepReport:
    """Run one pass: expire approvals, park poisoned runs, resume forgotten ones, send hints that are due."""
    now = _db_now()
    expired = sum(approvals.expire(pk) for pk in Approval.objects.expired(now).values_list("pk", flat=True)[:BATCH])
    poisoned = resumed = hinted = 0
    for run in Run.objects.orphans(now).order_by("pk")[:BATCH]:
        if run.status == RunStatus.WAITING:
            resumed += _resume(run.pk)
        elif run.status == RunStatus.RUNNING and run.lost_leases + 1 >= get_settings().poison_after:
            poisoned += _park(run.pk)
        else:
            hinted += _hint(run)
    report = SweepReport(hinted, poisoned, resumed, expired)
    if report.did_something:
        logger.info("swept: %s", report, extra={"action": "swept"})
    return report


def _db_now() -> datetime:
    """Return the database's time: the only clock that leases and expiries are read by."""
    row = Run.objects.order_by("pk").values_list(Now(), flat=True).first()
    # With no run at all there is nothing to compare a time with.
    return row if row is not None else timezone.now()


def _hint(run: Run) -> int:
    """Send one hint for an orphan, unless another sweep has just done so."""
    # The count, not the time: SQLite keeps times as text, of more than one precision.
    claimed = Run.objects.filter(pk=run.pk, attempt=run.attempt, dispatch_count=run.dispatch_count).update(
        dispatched_at=Now(), dispatch_count=F("dispatch_count") + 1
    )
    if claimed and not dispatch.enqueue(run.pk):
        # Nothing is outstanding, so the next pass may try again at once.
        Run.objects.filter(pk=run.pk).update(dispatched_at=None, dispatch_count=0)
        return 0
    return claimed


def _park(run_id: UUID) -> int:
    """Let a run that has cost several workers wait for a person."""
    with transaction.atomic():
        held = claims.hold(run_id, (RunStatus.RUNNING,))
        run = Run.objects.filter(pk=run_id, lease_expires_at__lt=held.now).first() if held else None
        if held is None or run is None:
            return 0
        entry = journal.Commit(
            events=[events.RunWaiting([WaitingReason.POISONED.value])],
            run={"status": RunStatus.WAITING.value, "lease_expires_at": None, "poisoned_at": NOW},
            thread_events=[held.changed(RunStatus.WAITING)],
        )
        if run.cancel_requested_at is not None:
            # No worker lived long enough to see the cancel, and no person owes it an answer.
            entry = ending.end(held, run, RunStatus.CANCELED, code="canceled", message=run.cancel_reason)
        journal.record(held, entry)
    logger.error(
        "parked: %s lost leases", get_settings().poison_after, extra={"run_id": str(run_id), "action": "parked"}
    )
    return 1


def _resume(run_id: UUID) -> int:
    """Let a waiting run that waits for nothing go on."""
    with transaction.atomic():
        held = claims.hold(run_id, (RunStatus.WAITING,))
        if held is None or not Run.objects.filter(pk__in=Run.objects.orphans(held.now), pk=run_id).exists():
            return 0
        entry = journal.Commit(
            events=[events.RunResumed()],
            run={"status": RunStatus.PENDING.value},
            thread_events=[held.changed(RunStatus.PENDING)],
        )
        journal.record(held, entry)
        runs.hint(run_id)
    return 1
