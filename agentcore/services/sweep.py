"""The sweep: gives every ownerless live run a hint or an end. Safe to run anywhere, any number of times at once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, fields
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar
from uuid import UUID

from django.db import OperationalError
from django.db.models import Model, Q, QuerySet
from django.utils import timezone

from ..conf import get_settings
from ..database.dialect import DbNow
from ..database.outage import is_conflict
from ..engine import transitions
from ..journal import fence, write
from ..journal.commit import Commit
from ..models import Approval, Run, SweepLease
from ..states import RunStatus, ToolCallStatus, WaitingReason
from ..values import events
from ..values.logextra import log_extra
from . import approvals, deletion, dispatch
from .patience import impatient

M = TypeVar("M", bound=Model)

logger = logging.getLogger("agentcore.sweep")

BATCH = 200
NOBODY_ANSWERED = (
    "A call of this run may have taken effect, and nobody said in time whether it did. Find out and answer it; "
    "then the run can be retried."
)

# How many passes a sweeper misses before it loses the sweep's lease; how many seconds after a run's lease has
# lapsed the sweep looks at it.
MISSED_PASSES = 3
AFTER_A_LAPSE = 0.05
SHORTEST = 1 / 8  # of an interval

_logs = deletion.LogSweep()


@dataclass(frozen=True)
class SweepReport:
    """What one pass did."""

    hinted: int
    poisoned: int
    resumed: int
    expired: int
    ended: int = 0
    removed: int = 0

    @property
    def did_something(self) -> bool:
        """Whether there was anything to do."""
        return any(astuple(self))


def sweep() -> SweepReport:
    """Run one pass: expire approvals, end or park what nobody may drive on, resume forgotten ones; then send due hints.

    A row that cannot be dealt with, or that is locked, is logged and skipped.
    """
    now = _db_now()
    counts = dict.fromkeys((field.name for field in fields(SweepReport)), 0)
    for approval in _until_a_batch(counts, Approval.objects.expired(now)):
        _deal(counts, approval.run_id, partial(_expire, approval.pk))
    for run in _until_a_batch(counts, Run.objects.to_settle(now)):
        _deal(counts, run.pk, partial(_settle, run))
    counts["hinted"] = _hint(Run.objects.to_hint(now)[:BATCH])
    for thread_id in deletion.due(BATCH):
        _deal(counts, thread_id, partial(_remove, thread_id))
    counts["removed"] += _logs.look(BATCH)
    report = SweepReport(**counts)
    if report.did_something:
        logger.info("swept: %s", report, extra=log_extra("swept"))
    return report


def interval() -> float:
    """Return how many seconds lie between two passes."""
    return get_settings().sweep_seconds


def sweep_with_lease(holder: str) -> SweepReport | None:
    """Run one pass if `holder` has or gets the sweep's lease; None where another sweeper has it.

    The lease only saves work: two passes at the same time do what one does.
    """
    return sweep() if _acquire_lease(holder[:100]) else None


def lease_seconds() -> float:
    """Return for how many seconds a sweeper has the sweep's lease unless it renews it.

    Less than a run's lease: where a machine that had both dies, another sweeper must be there before the run's lapses.
    """
    return max(min(interval() * MISSED_PASSES, get_settings().lease_seconds / 2), interval() * 1.5)


def release_lease(holder: str) -> None:
    """Give up the sweep's lease, as a sweeper that ends does: another one may sweep at once."""
    with impatient():
        SweepLease.objects.release(holder[:100])


def seconds_until_next() -> float:
    """Return how long to wait for the next pass: an interval, less where a lease runs out meanwhile.

    A living worker renews long before, so what is about to run out has most likely lost its worker.
    """
    now = _db_now()
    soon = Run.objects.filter(
        status=RunStatus.RUNNING, lease_expires_at__gte=now, lease_expires_at__lt=now + timedelta(seconds=interval())
    )
    lapse = soon.order_by("lease_expires_at").values_list("lease_expires_at", flat=True).first()
    if lapse is None:
        return interval()
    return max((lapse - now).total_seconds() + AFTER_A_LAPSE, interval() * SHORTEST)


def _acquire_lease(holder: str) -> bool:
    """Acquire or renew the sweep's lease; where its row is locked, go by what the row says now."""
    try:
        with impatient():
            return SweepLease.objects.acquire(holder, lease_seconds())
    except OperationalError as error:
        if not is_conflict(error):
            raise
    logger.info("somebody holds the row of the sweep's lease", extra=log_extra("sweep_held"))
    # A process that hangs while it acquires the lease does not have it, and must not stop all sweeping.
    return SweepLease.objects.held_by() in ("", holder)


def _until_a_batch(counts: Mapping[str, int], rows: QuerySet[M]) -> Iterator[M]:
    """Yield rows, page by page, until a batch was dealt with: rows that fail in each pass must not use up the batch."""
    before, after = sum(counts.values()), Q()
    while sum(counts.values()) - before < BATCH:
        page = list(rows.filter(after).order_by("pk")[:BATCH])
        yield from page
        if len(page) < BATCH:
            return
        after = Q(pk__gt=page[-1].pk)


def _deal(counts: dict[str, int], run_id: UUID, act: Callable[[], str]) -> None:
    """Deal with one row, and count what was done under its name in the report; an error is logged."""
    try:
        done = act()
    except Exception as error:
        if is_conflict(error):
            logger.info("somebody holds the row; the next pass looks again", extra=log_extra("sweep_held", run_id))
            return
        logger.exception("a row was left as it is", extra=log_extra("sweep_failed", run_id))
        return
    if done:
        counts[done] += 1


def _expire(approval_id: UUID) -> str:
    with impatient():
        return "expired" if approvals.expire(approval_id) else ""


def _remove(thread_id: UUID) -> str:
    with impatient():
        return "removed" if deletion.remove_or_put_off(thread_id) else ""


def _settle(run: Run) -> str:
    """Give one orphan an owner or an end; returns what was done, under its name in the report."""
    if run.status == RunStatus.WAITING:
        return _resume_or_end(run.pk)
    return "poisoned" if _park(run.pk) else ""


def _db_now() -> datetime:
    """Return the database's time: the only clock that leases and expiries are read by."""
    row = Run.objects.order_by("pk").values_list(DbNow(), flat=True).first()
    # With no run at all there is nothing to compare a time with.
    return row if row is not None else timezone.now()


def _hint(orphans: Iterable[Run]) -> int:
    """Send a hint for each orphan, unless another sweep has just done so; all go in one round trip, or none."""
    # Hints sent before the lease ran out were not about that: the pauses between hints start short again.
    seen = [
        dispatch.Seen(run.pk, run.attempt, run.dispatch_count, afresh=run.hint_is_stale and run.dispatch_count > 1)
        for run in orphans
    ]
    noted = dispatch.note_where_unchanged(seen)
    for run_id in {item.run_id for item in seen} - set(noted):
        extra = log_extra("sweep_held", run_id)
        logger.info("somebody holds the row, or deals with it; the next pass looks again", extra=extra)
    if not noted or dispatch.enqueue(*noted):
        return len(noted)
    dispatch.note_not_sent(noted)
    return 0


def _park(run_id: UUID) -> int:
    """Let a run that has cost several workers wait for a person."""
    with impatient():
        held = fence.hold(run_id, (RunStatus.RUNNING,))
        run = Run.objects.filter(pk=run_id, lease_expires_at__lt=held.now).first() if held else None
        if held is None or run is None:
            return 0
        commit = Commit(
            events=[events.RunWaiting([WaitingReason.POISONED.value])],
            run={"status": RunStatus.WAITING.value, "poisons": True},
            thread_events=[held.changed(RunStatus.WAITING)],
        )
        if run.cancel_requested_at is not None:
            # No worker lived long enough to see the cancel, and no person owes it an answer.
            commit = transitions.end(held, run, RunStatus.CANCELED, code="canceled", message=run.cancel_reason)
        write.record(held, commit)
    logger.error("parked: %s lost leases", get_settings().poison_after, extra=log_extra("parked", run_id))
    return 1


def _resume_or_end(run_id: UUID) -> str:
    """Resume a waiting run that waits for nothing; end one whose unverified calls nobody has answered in time."""
    with impatient():
        held = fence.hold(run_id, (RunStatus.WAITING,))
        run = Run.objects.filter(pk__in=Run.objects.orphans(held.now), pk=run_id).first() if held else None
        if held is None or run is None:
            return ""
        if run.tool_calls.filter(status=ToolCallStatus.EFFECT_UNVERIFIED).exists():
            over = transitions.end(held, run, RunStatus.FAILED, code="effect_unverified", message=NOBODY_ANSWERED)
            write.record(held, over)
            done = "ended"
        else:
            write.record(held, transitions.resumed(held))
            dispatch.hint(run_id)
            done = "resumed"
    if done == "ended":
        with impatient():
            dispatch.hint_next(run_id)
    return done
