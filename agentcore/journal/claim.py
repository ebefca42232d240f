"""A worker's right to write to a run: claim it, and prove the claim with every write.

A worker's UPDATE of the row (see `row`) is fence, lease renewal and cancel check as
well, and serves all the runs of a batch: it never waits for a row, so no two batches
can block each other, and a row that somebody holds is left for a later batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

from ..conf import get_settings
from ..database import bulk, dialect
from ..models import Run, Thread
from ..states import LIVE_RUN_STATUSES, TERMINAL_RUN_STATUSES, RunStatus, check_move
from ..streams.models import Stream
from .row import Allocation, RunRow, seconds_until_lapse

_RUN = Run._meta.db_table
_STREAM = Stream._meta.db_table
_THREAD = Thread._meta.db_table
_LIVE = ", ".join(f"'{status.value}'" for status in LIVE_RUN_STATUSES)
_OVER = ", ".join(f"'{status.value}'" for status in TERMINAL_RUN_STATUSES)
# What a claim makes of the count of lost leases: only one that was lost by a process that drove nothing else counts.
_LOST = f"{_RUN}.lost_leases + CASE WHEN {_RUN}.status = 'running' AND {_RUN}.alone THEN 1 ELSE 0 END"


@dataclass(frozen=True)
class Claim(RunRow):
    """A worker's right to one run, as long as `attempt` is the run's attempt."""

    attempt: int

    @classmethod
    def of(cls, run: Run) -> Claim:
        """Return the claim that the next attempt at a run would be."""
        return cls(
            run.pk, run.thread_id, run.stream_id, run.thread.stream_id, run.number, run.agent, attempt=run.attempt + 1
        )


@dataclass(frozen=True)
class Take:
    """A claim that is still to be made, of a run whose log ended before `seen_seq` when it was read.

    With `thread_seq`, its thread's log must still end where it did before the history was read.
    """

    claim: Claim
    seen_seq: int
    worker: str
    alone: bool
    thread_seq: int | None = None


@dataclass(frozen=True)
class Want:
    """What one worker's write needs of its run's row: positions, and new values of columns.

    With `seen_seq`, the log must still end where it did when the row was read.
    """

    claim: Claim
    records: int
    messages: int
    values: Mapping[str, Any]
    starts: bool = False
    seen_seq: int | None = None


def take(takes: Sequence[tuple[Take, Want]]) -> dict[UUID, Allocation]:
    """Claim runnable runs, and allocate positions for the first entry of each; those not claimed are left out.

    Runnable is: pending, due and first in its thread's queue; or running with a
    lease that ran out, unless that was one time too often (see the sweep); and in
    either case not changed since it was read, nor its thread where that matters. What
    changes the thread after this statement has begun, `write` finds when it has locked the thread's log.
    """
    settings = get_settings()
    rows = [(item.claim.attempt, item.seen_seq, item.worker[:100], item.alone, item.thread_seq) for item, _ in takes]
    params = [settings.lease_seconds, settings.poison_after]
    return _allocate([want for _, want in takes], _taking(dialect.clock()), rows, params)


@cache
def _taking(clock: str) -> bulk.Statement:
    return _allocating(
        clock,
        [
            bulk.column(Run, "attempt"),
            bulk.extra("seen_seq", "bigint"),
            bulk.column(Run, "worker"),
            bulk.column(Run, "alone"),
            bulk.extra("thread_seq", "bigint"),
        ],
        f"status = 'running', attempt = wanted.attempt, worker = wanted.worker, lost_leases = {_LOST}, "
        f"alone = wanted.alone, lease_expires_at = {dialect.later()}, started_at = COALESCE(started_at, {clock}), "
        # In the time after the lease that ran out nobody was at it, which does not count.
        f"running_seconds = running_seconds + {seconds_until_lapse()}, running_since = {clock}, "
        "available_at = NULL, version_missing_since = NULL, "
        "dispatched_at = NULL, dispatch_count = 0, hint_failed_at = NULL",
        _may_be_claimed(clock),
    )


def _may_be_claimed(clock: str) -> str:
    """Return the condition of a claim; its parameter is the number of leases that may be lost."""
    ahead = (
        f"SELECT 1 FROM {_RUN} ahead WHERE ahead.thread_id = {_RUN}.thread_id AND ahead.queued "
        f"AND ahead.number < {_RUN}.number AND ahead.status IN ({_LIVE})"
    )
    thread_ends = (
        f"SELECT stream.next_seq FROM {_STREAM} stream JOIN {_THREAD} thread ON thread.stream_id = stream.id "
        f"WHERE thread.id = {_RUN}.thread_id"
    )
    return (
        f"{_RUN}.attempt = wanted.attempt - 1 AND next_seq = wanted.seen_seq "
        f"AND (wanted.thread_seq IS NULL OR wanted.thread_seq = ({thread_ends})) AND ("
        f"({_RUN}.status = 'pending' AND (available_at IS NULL OR available_at <= {clock}) "
        f"AND NOT (queued AND EXISTS ({ahead}))) "
        f"OR ({_RUN}.status = 'running' AND lease_expires_at < {clock} AND {_LOST} < %s))"
    )


def claimable(takes: Sequence[Take]) -> set[UUID]:
    """Return which of the runs may be claimed now: `take` has left them out because somebody held their rows then."""
    rows = [(item.claim.run_id, item.claim.attempt, item.seen_seq, item.thread_seq) for item in takes]
    found = bulk.execute(_asking(dialect.clock()), rows, [get_settings().poison_after])
    return {dialect.id_out(row[0]) for row in found}


@cache
def _asking(clock: str) -> bulk.Statement:
    return bulk.Statement(
        f"SELECT {_RUN}.id FROM {_RUN} JOIN wanted ON wanted.id = {_RUN}.id WHERE {_may_be_claimed(clock)}",
        [
            bulk.column(Run, "id"),
            bulk.column(Run, "attempt"),
            bulk.extra("seen_seq", "bigint"),
            bulk.extra("thread_seq", "bigint"),
        ],
    )


_SET_BY_WORKERS = (
    "status",
    "lost_leases",
    "alone",
    "usage",
    "notes",
    "output",
    "finish_reason",
    "error_code",
    "error_message",
    "error_detail",
    "retry_after",
)


def fence(wants: Sequence[Want]) -> dict[UUID, Allocation]:
    """Prove claims, renew their leases, allocate positions and set columns, in one statement for all of them.

    Left out is a run that is no longer its worker's, one whose `starts` a waiting
    cancel refuses, and one whose row somebody holds at this moment; `ours` tells them apart.
    """
    for want in wants:
        check_move(RunStatus.RUNNING, want.values.get("status", RunStatus.RUNNING))
        if unknown := want.values.keys() - {*_SET_BY_WORKERS, "available_in"}:
            raise ValueError(f"a worker does not set {', '.join(sorted(unknown))} of its run")
    rows = [
        (
            want.claim.attempt,
            want.starts,
            want.seen_seq,
            want.values.get("available_in"),
            *map(want.values.get, _SET_BY_WORKERS),
        )
        for want in wants
    ]
    return _allocate(wants, _fencing(dialect.clock()), rows, [get_settings().lease_seconds])


@cache
def _fencing(clock: str) -> bulk.Statement:
    columns = [bulk.column(Run, name) for name in _SET_BY_WORKERS]
    kept = ", ".join(f"{item.name} = COALESCE(wanted.{item.name}, {_RUN}.{item.name})" for item in columns)
    now_is = f"COALESCE(wanted.status, {_RUN}.status)"
    return _allocating(
        clock,
        [
            bulk.column(Run, "attempt"),
            bulk.extra("starts", "boolean"),
            bulk.extra("seen_seq", "bigint"),
            bulk.extra("available_in", "float"),
            *columns,
        ],
        f"{kept}, lease_expires_at = CASE WHEN {now_is} = 'running' THEN {dialect.later()} END, "
        f"available_at = CASE WHEN wanted.available_in IS NOT NULL THEN {dialect.later('wanted.available_in')} END, "
        f"finished_at = CASE WHEN {now_is} IN ({_OVER}) THEN {clock} END, "
        f"running_seconds = running_seconds + "
        f"CASE WHEN {now_is} = 'running' THEN 0.0 ELSE {dialect.seconds_since('running_since')} END, "
        f"running_since = CASE WHEN {now_is} = 'running' THEN running_since END",
        f"{_RUN}.attempt = wanted.attempt AND {_RUN}.status = 'running' "
        "AND NOT (wanted.starts AND cancel_requested_at IS NOT NULL) "
        "AND (wanted.seen_seq IS NULL OR next_seq = wanted.seen_seq)",
    )


def _allocating(clock: str, columns: Sequence[bulk.Column], assignments: str, condition: str) -> bulk.Statement:
    """Return the statement that locks runs, changes those that fit the condition, and allocates their positions."""
    own = [bulk.column(Run, "id"), bulk.extra("records", "bigint"), bulk.extra("said", "integer")]
    lock = dialect.row_lock("run", skip_locked=True)
    # On PostgreSQL the rows are locked first, so that one which is held is skipped; SQLite has one writer.
    locked = f", locked AS (SELECT run.id FROM {_RUN} run JOIN wanted ON wanted.id = run.id ORDER BY run.id{lock}) "
    return bulk.Statement(
        f"{locked}UPDATE {_RUN} SET next_seq = next_seq + wanted.records, "
        f"next_step_order = next_step_order + wanted.said, {assignments} "
        f"FROM wanted JOIN locked ON locked.id = wanted.id WHERE {_RUN}.id = wanted.id AND {condition} "
        f"RETURNING {_RUN}.id, next_seq, next_step_order, cancel_requested_at, {clock}",
        [*own, *columns],
    )


def _allocate(
    wants: Sequence[Want], statement: bulk.Statement, rows: Sequence[tuple[Any, ...]], params: Sequence[Any]
) -> dict[UUID, Allocation]:
    asked = {want.claim.run_id: want for want in wants}
    wanted = [(want.claim.run_id, want.records, want.messages, *row) for want, row in zip(wants, rows, strict=True)]
    allocated = {}
    for pk, next_seq, next_step_order, cancel, now in bulk.execute(statement, wanted, params):
        want = asked[dialect.id_out(pk)]
        allocated[want.claim.run_id] = Allocation(
            next_seq - want.records, next_step_order - want.messages, dialect.time_out(now), cancel is not None
        )
    return allocated


@cache
def next_in_turn() -> bulk.Statement:
    """Return the statement that finds, for threads, the runs that wait for their turn.

    Whoever holds the threads' logs misses none: a run that is sent later has a hint of its own.
    """
    return bulk.Statement(
        f"SELECT run.id FROM {_RUN} run JOIN wanted ON wanted.thread_id = run.thread_id "
        f"WHERE run.queued AND run.status = '{RunStatus.PENDING.value}'",
        [bulk.column(Run, "thread")],
    )


def held_by_others(run_ids: Sequence[UUID]) -> set[UUID]:
    """Return which of the runs somebody else has locked at this moment; the others are locked by the caller now."""
    free = bulk.execute(_locking(), [(run_id,) for run_id in run_ids])
    return set(run_ids) - {dialect.id_out(row[0]) for row in free}


@cache
def _locking() -> bulk.Statement:
    lock = dialect.row_lock("run", skip_locked=True)
    return bulk.Statement(
        f"SELECT run.id FROM {_RUN} run JOIN wanted ON wanted.id = run.id ORDER BY run.id{lock}",
        [bulk.column(Run, "id")],
    )


def ours(claims: Sequence[Claim]) -> dict[UUID, bool]:
    """Return which of the runs are still their workers', each with whether a cancel waits; nothing is locked."""
    attempts = {claim.run_id: claim.attempt for claim in claims}
    rows = Run.objects.filter(pk__in=list(attempts), status=RunStatus.RUNNING)
    found = rows.values_list("pk", "attempt", "cancel_requested_at")
    return {pk: cancel is not None for pk, attempt, cancel in found if attempts[pk] == attempt}
