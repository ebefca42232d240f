"""The fence: one UPDATE of the run's row says whether a commit may be written, and where.

It is lock, claim, proof of a claim, lease renewal, cancel check and allocator of `seq` in
one, the same on PostgreSQL and SQLite (which has no SELECT … FOR UPDATE), and serves all
the runs of a batch. It never waits for a row: what somebody holds is left for a later
batch. Whoever is not the run's worker waits for the row first (`hold`), and then goes
through the same statement.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any
from uuid import UUID

from django.db import connection

from ..conf import get_settings
from ..database import bulk, dialect
from ..models import Run
from ..states import LIVE_RUN_STATUSES, TERMINAL_RUN_STATUSES, RunStatus, check_move
from .batch import Batch
from .commit import Claim, Held, Request

SETS = (
    "status",
    "alone",
    "lost_leases",
    "usage",
    "notes",
    "output",
    "finish_reason",
    "error_code",
    "error_message",
    "error_detail",
    "retry_after",
    "cancel_reason",
)
"""The columns that a commit may give a value; what it does not name stays as it is."""

# Locks what nobody holds: of the runs, and of the logs of their threads where a commit needs them.
LOCKED = """
runs AS (
    SELECT run.id, run.status AS held_status, run.attempt AS held_attempt, run.cancel_requested_at AS held_cancel
    FROM agentcore_run run JOIN wanted ON wanted.id = run.id ORDER BY run.id{skip_locked}
), threads AS (
    SELECT stream.id, stream.next_seq AS thread_end
    FROM agentcore_streams_stream stream
    WHERE stream.closed_at IS NULL AND stream.id IN (
        SELECT wanted.thread_stream FROM wanted JOIN runs ON runs.id = wanted.id WHERE wanted.in_thread)
    ORDER BY stream.id{lock_threads}
)"""

FENCE = """
UPDATE agentcore_run SET
    next_seq = agentcore_run.next_seq + wanted.records,
    next_step_order = agentcore_run.next_step_order + wanted.messages,
    status = {status},
    attempt = CASE WHEN wanted.claims THEN wanted.attempt ELSE agentcore_run.attempt END,
    worker = CASE WHEN wanted.claims THEN wanted.worker ELSE agentcore_run.worker END,
    alone = COALESCE(wanted.alone, agentcore_run.alone),
    lost_leases = CASE WHEN wanted.claims THEN {lost} ELSE COALESCE(wanted.lost_leases, agentcore_run.lost_leases) END,
    lease_expires_at = CASE
        WHEN {status} <> 'running' THEN NULL
        WHEN wanted.attempt IS NULL THEN lease_expires_at
        ELSE {lease_ends} END,
    started_at = CASE WHEN wanted.claims THEN COALESCE(started_at, {clock}) ELSE started_at END,
    -- In the time after a lease that ran out nobody was at it, which does not count.
    running_seconds = running_seconds
        + CASE WHEN wanted.claims OR {status} <> 'running' THEN {seconds_until_lapse} ELSE 0.0 END,
    running_since = CASE
        WHEN {status} <> 'running' THEN NULL WHEN wanted.claims THEN {clock} ELSE running_since END,
    available_at = CASE
        WHEN wanted.available_in IS NOT NULL THEN {due}
        WHEN {status} = agentcore_run.status THEN available_at END,
    version_missing_since = CASE WHEN {status} = agentcore_run.status THEN version_missing_since END,
    poisoned_at = CASE WHEN wanted.poisons THEN {clock} WHEN {status} <> 'pending' THEN poisoned_at END,
    dispatched_at = CASE WHEN NOT wanted.claims THEN dispatched_at END,
    dispatch_count = CASE WHEN wanted.claims THEN 0 ELSE dispatch_count END,
    hint_failed_at = CASE WHEN NOT wanted.claims THEN hint_failed_at END,
    cancel_requested_at = CASE WHEN wanted.cancels THEN {clock} ELSE cancel_requested_at END,
    cancel_reason = COALESCE(wanted.cancel_reason, agentcore_run.cancel_reason),
    finished_at = CASE WHEN {status} IN ({over}) THEN COALESCE(finished_at, {clock}) END,
    finish_reason = COALESCE(wanted.finish_reason, agentcore_run.finish_reason),
    error_code = COALESCE(wanted.error_code, agentcore_run.error_code),
    error_message = COALESCE(wanted.error_message, agentcore_run.error_message),
    error_detail = COALESCE(wanted.error_detail, agentcore_run.error_detail),
    retry_after = COALESCE(wanted.retry_after, agentcore_run.retry_after),
    output = COALESCE(wanted.output, agentcore_run.output),
    usage = COALESCE(wanted.usage, agentcore_run.usage),
    notes = COALESCE(wanted.notes, agentcore_run.notes)
FROM wanted JOIN runs ON runs.id = wanted.id LEFT JOIN threads ON threads.id = wanted.thread_stream
WHERE agentcore_run.id = wanted.id
    AND (NOT wanted.in_thread OR threads.id IS NOT NULL)
    AND (wanted.seen_seq IS NULL OR agentcore_run.next_seq = wanted.seen_seq)
    AND NOT (wanted.starts AND cancel_requested_at IS NOT NULL)
    AND CASE WHEN wanted.claims THEN {claimable}
        ELSE agentcore_run.status = wanted.source
            AND (wanted.attempt IS NULL OR agentcore_run.attempt = wanted.attempt) END
RETURNING agentcore_run.id, agentcore_run.next_seq, next_step_order, cancel_requested_at, {clock} AS now
"""

# Runnable is: pending, due and first in its thread's queue; or running with a lease that ran out, unless that
# was one time too often (see the sweep). In either case not changed since it was read, nor its thread where that
# matters. A run ahead of it may have ended since this statement began; whoever ended it sends a hint then.
CLAIMABLE = """(
    agentcore_run.attempt = wanted.attempt - 1
    AND (wanted.thread_seq IS NULL OR wanted.thread_seq = threads.thread_end)
    AND (
        (agentcore_run.status = 'pending' AND (available_at IS NULL OR available_at <= {clock})
            AND NOT (queued AND EXISTS (
                SELECT 1 FROM agentcore_run ahead WHERE ahead.thread_id = agentcore_run.thread_id
                AND ahead.queued AND ahead.number < agentcore_run.number AND ahead.status IN ({live}))))
        OR (agentcore_run.status = 'running' AND lease_expires_at < {clock} AND {lost} < wanted.poison_after)
    )
)"""

# What a claim makes of the count of lost leases: only one that was lost by a process that drove nothing else counts.
LOST = """
    agentcore_run.lost_leases + CASE WHEN agentcore_run.status = 'running' AND agentcore_run.alone THEN 1 ELSE 0 END
""".strip()

HOLD = """
, locked AS (
    SELECT run.id FROM agentcore_run run JOIN wanted ON wanted.id = run.id ORDER BY run.id{lock}
)
UPDATE agentcore_run SET next_seq = next_seq FROM locked
WHERE agentcore_run.id = locked.id AND agentcore_run.status IN ({statuses})
RETURNING agentcore_run.id, agentcore_run.thread_id, agentcore_run.stream_id,
    (SELECT thread.stream_id FROM agentcore_thread thread WHERE thread.id = agentcore_run.thread_id),
    agentcore_run.number, agentcore_run.agent, agentcore_run.status, agentcore_run.attempt, {clock}
"""


def rows(batch: Batch) -> list[tuple[Any, ...]]:
    """Return the rows of `wanted`, one for each request of a batch."""
    return [_row(request, batch) for request in batch.requests]


def _row(request: Request, batch: Batch) -> tuple[Any, ...]:
    row, commit, settings = request.row, request.commit, get_settings()
    values = dict(commit.run)
    if isinstance(row, Held):
        check_move(row.status, RunStatus(values.get("status", row.status)))
        source, attempt, worker, seen_seq, thread_seq = row.status.value, None, None, request.seen_seq, None
    elif request.claims:
        values |= {"status": RunStatus.RUNNING.value, "alone": row.alone}
        source, attempt, worker = None, row.attempt, row.worker
        seen_seq, thread_seq = row.seen_seq, row.thread_seq
    else:
        check_move(RunStatus.RUNNING, values.get("status", RunStatus.RUNNING))
        source, attempt, worker = RunStatus.RUNNING.value, row.attempt, None
        seen_seq, thread_seq = request.seen_seq, None
    if unknown := values.keys() - {*SETS, "available_in", "cancels", "poisons"}:
        raise ValueError(f"a commit does not set {', '.join(sorted(unknown))} of its run")
    told = len(batch.told[row.run_id])
    return (
        *(row.run_id, row.thread_id, row.stream_id, row.thread_stream_id),
        *(len(commit.events), len(commit.messages), told, batch.moves_of[row.run_id]),
        *(told > 0 or thread_seq is not None, request.ends_its_run),
        *(request.claims, source, attempt, worker),
        *(commit.starts, seen_seq, thread_seq, settings.lease_seconds, settings.poison_after),
        *(values.get("available_in"), bool(values.get("cancels")), bool(values.get("poisons"))),
        *map(values.get, SETS),
    )


_WANTED = (
    *(("records", "bigint"), ("messages", "integer"), ("tells", "integer"), ("moves", "integer")),
    *(("in_thread", "boolean"), ("ends", "boolean")),
    *(("claims", "boolean"), ("source", "text"), ("attempt", "integer"), ("worker", "text")),
    *(("starts", "boolean"), ("seen_seq", "bigint"), ("thread_seq", "bigint")),
    *(("lease_seconds", "float"), ("poison_after", "integer"), ("available_in", "float")),
    *(("cancels", "boolean"), ("poisons", "boolean")),
)


@cache
def locked(*, waits_for_threads: bool) -> str:
    """Return the tables `runs` and `threads` of the rows that are locked; the caller names `wanted` before."""
    return LOCKED.format(
        skip_locked=dialect.row_lock("run", skip_locked=True),
        lock_threads=dialect.row_lock("stream", skip_locked=not waits_for_threads),
    )


@cache
def fenced(clock: str) -> bulk.Statement:
    """Return the fenced UPDATE, which reads `wanted`, `runs` and `threads`."""
    text = FENCE.format(
        clock=clock,
        status="COALESCE(wanted.status, agentcore_run.status)",
        lost=LOST,
        over=_listed(TERMINAL_RUN_STATUSES),
        lease_ends=dialect.after(clock, "wanted.lease_seconds"),
        due=dialect.after(clock, "wanted.available_in"),
        seconds_until_lapse=dialect.seconds_since("running_since", "lease_expires_at"),
        claimable=CLAIMABLE.format(clock=clock, live=_listed(LIVE_RUN_STATUSES), lost=LOST),
    )
    ids = [*(bulk.column(Run, name) for name in ("id", "thread", "stream")), bulk.an_id("thread_stream")]
    extras = [bulk.extra(name, kind) for name, kind in _WANTED]
    return bulk.Statement(text, [*ids, *extras, *(bulk.column(Run, name) for name in SETS)])


def _listed(statuses: Iterable[RunStatus]) -> str:
    return ", ".join(f"'{status.value}'" for status in statuses)


def ours(claims: Sequence[Claim]) -> dict[UUID, bool]:
    """Return which of the runs are still their workers', each with whether a cancel waits; nothing is locked."""
    attempts = {claim.run_id: claim.attempt for claim in claims}
    rows = Run.objects.filter(pk__in=list(attempts), status=RunStatus.RUNNING)
    found = rows.values_list("pk", "attempt", "cancel_requested_at")
    return {pk: cancel is not None for pk, attempt, cancel in found if attempts[pk] == attempt}


def hold(run_id: UUID, statuses: Sequence[RunStatus] = LIVE_RUN_STATUSES) -> Held | None:
    """Lock a run's row on behalf of anyone but its worker, waiting for it; None where its status is another.

    The caller is in a transaction, and holds neither a thread's nor any lower row yet.
    """
    return hold_all([run_id], statuses).get(run_id)


def hold_all(run_ids: Iterable[UUID], statuses: Sequence[RunStatus] = LIVE_RUN_STATUSES) -> dict[UUID, Held]:
    """Do what `hold` does for several runs, by id as every transaction does; those of another status are left out."""
    wanted = [(run_id,) for run_id in sorted(set(run_ids))]
    held = map(_held, bulk.execute(_hold(dialect.clock(), tuple(statuses)), wanted))
    return {item.run_id: item for item in held}


def _held(row: Sequence[Any]) -> Held:
    run_id, thread_id, stream_id, thread_stream_id = map(dialect.id_out, row[:4])
    number, agent, status, attempt, now = row[4:]
    at = dialect.time_out(now)
    return Held(run_id, thread_id, stream_id, thread_stream_id, number, agent, RunStatus(status), attempt, at)


@cache
def _hold(clock: str, statuses: tuple[RunStatus, ...]) -> bulk.Statement:
    text = HOLD.format(clock=clock, statuses=_listed(statuses), lock=dialect.row_lock("run"))
    return bulk.Statement(text, [bulk.column(Run, "id")])


def wait_no_longer_than(milliseconds: int) -> None:
    """Have the caller's transaction fail, as by a conflict, rather than wait longer for a row that somebody holds."""
    if connection.vendor == "postgresql":  # SQLite has no rows to hold, and a time limit of its own
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [str(milliseconds)])
