"""The right to write to a run: claim it, prove the claim with every write, or hold the row for a moment.

Every transaction on a run starts with one UPDATE of its row. That statement is
fence, lock, lease renewal, cancel check and allocator of `seq` in one, the same
on PostgreSQL and SQLite (which has no SELECT … FOR UPDATE).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from .. import events
from ..clock import Later
from ..conf import get_settings
from ..exceptions import CancelRequested, LeaseLost
from ..models import Run, Thread
from ..states import LIVE_RUN_STATUSES, RunStatus, check_move
from ..streams import dialect
from . import sql

_RUN = Run._meta.db_table
_ROW = (
    "thread_id, stream_id, "
    f"(SELECT thread.stream_id FROM {Thread._meta.db_table} thread WHERE thread.id = {_RUN}.thread_id), number, agent"
)
_LIVE = ", ".join(f"'{status.value}'" for status in LIVE_RUN_STATUSES)


@dataclass(frozen=True)
class RunRow:
    """Where a run is written to: its own log, and its thread's."""

    run_id: UUID
    thread_id: UUID
    stream_id: UUID
    thread_stream_id: UUID
    number: int
    agent: str

    def changed(self, status: RunStatus) -> events.ThreadRun:
        """Return the thread event that says what became of this run."""
        return events.ThreadRun(str(self.run_id), status.value, self.number, self.agent)


@dataclass(frozen=True)
class Claim(RunRow):
    """A worker's right to one run, as long as `attempt` is the run's attempt."""

    attempt: int


@dataclass(frozen=True)
class Allocation:
    """What a fenced UPDATE gave: positions, the database's time, and whether a cancel waits."""

    first_seq: int
    first_step_order: int
    now: datetime
    cancel_requested: bool


@dataclass(frozen=True)
class Held(RunRow):
    """A run's row, locked until the end of the surrounding transaction by somebody who is not its worker."""

    status: RunStatus
    now: datetime


def take(run_id: UUID, worker: str) -> Claim | None:
    """Claim a runnable run; None where there is nothing to do.

    Runnable is: pending, due and first in its thread's queue; or running with a
    lease that ran out, unless that was one time too often (see the sweep). The
    caller is in a transaction, and records the claim in it.
    """
    clock = sql.clock()
    ahead = (
        f"SELECT 1 FROM {_RUN} ahead WHERE ahead.thread_id = {_RUN}.thread_id AND ahead.queued "
        f"AND ahead.number < {_RUN}.number AND ahead.status IN ({_LIVE})"
    )
    statement = (
        f"UPDATE {_RUN} SET status = 'running', attempt = attempt + 1, worker = %s, "
        f"lease_expires_at = {sql.later()}, started_at = COALESCE(started_at, {clock}), "
        "lost_leases = lost_leases + CASE WHEN status = 'running' THEN 1 ELSE 0 END, "
        "available_at = NULL, dispatched_at = NULL, dispatch_count = 0 "
        "WHERE id = %s AND ("
        f"(status = 'pending' AND (available_at IS NULL OR available_at <= {clock}) "
        f"AND NOT (queued AND EXISTS ({ahead})))"
        f" OR (status = 'running' AND lease_expires_at < {clock} AND lost_leases + 1 < %s)) "
        f"RETURNING {_ROW}, attempt"
    )
    settings = get_settings()
    row = _one(statement, [worker[:100], settings.lease_seconds, sql.uuid(run_id), settings.poison_after])
    return None if row is None else Claim(run_id, *_place(row), row[5])


def fence(claim: Claim, *, records: int, messages: int, values: Mapping[str, Any], starts: bool = False) -> Allocation:
    """Prove the claim, renew its lease, allocate positions and set columns, in one statement.

    With `starts`, a waiting cancel refuses the write. Raises `LeaseLost` where the
    run is no longer this worker's, `CancelRequested` where only the cancel was in the way.
    """
    columns = dict(values)
    target = columns.get("status", RunStatus.RUNNING)
    check_move(RunStatus.RUNNING, target)
    if target == RunStatus.RUNNING:
        columns["lease_expires_at"] = Later(get_settings().lease_seconds)
    else:
        columns["lease_expires_at"] = None
    where = "attempt = %s AND status = 'running'" + (" AND cancel_requested_at IS NULL" if starts else "")
    allocation = _allocate(claim.run_id, where, [claim.attempt], records, messages, columns)
    if allocation is None:
        if starts and Run.objects.filter(pk=claim.run_id, attempt=claim.attempt, status=RunStatus.RUNNING).exists():
            raise CancelRequested
        raise LeaseLost
    return allocation


def hold(run_id: UUID, statuses: Sequence[RunStatus] = LIVE_RUN_STATUSES) -> Held | None:
    """Lock a run's row for a write that is not its worker's; None where its status is another.

    The caller is in a transaction, and holds neither a thread's nor any lower row yet.
    """
    names = ", ".join(["%s"] * len(statuses))
    row = _one(
        f"UPDATE {_RUN} SET next_seq = next_seq WHERE id = %s AND status IN ({names}) "
        f"RETURNING {_ROW}, status, {sql.clock()}",
        [sql.uuid(run_id), *(status.value for status in statuses)],
    )
    return None if row is None else Held(run_id, *_place(row), RunStatus(row[5]), dialect.time_out(row[6]))


def hold_all(run_ids: Iterable[UUID]) -> dict[UUID, Held]:
    """Lock the rows of several live runs, by id as every transaction does; those that have ended are left out."""
    found = ((run_id, hold(run_id)) for run_id in sorted(run_ids))
    return {run_id: held for run_id, held in found if held is not None}


def allocate(held: Held, *, records: int, messages: int, values: Mapping[str, Any]) -> Allocation:
    """Allocate positions and set columns of a run whose row is held."""
    check_move(held.status, values.get("status", held.status))
    allocation = _allocate(held.run_id, "status = %s", [held.status.value], records, messages, values)
    if allocation is None:
        raise LeaseLost
    return allocation


def peek(claim: Claim) -> bool:
    """Return whether a cancel waits, without writing; raises `LeaseLost` where the run is not ours any more."""
    ours = Run.objects.filter(pk=claim.run_id, attempt=claim.attempt, status=RunStatus.RUNNING)
    row = ours.values_list("cancel_requested_at").first()
    if row is None:
        raise LeaseLost
    return row[0] is not None


def _allocate(
    run_id: UUID, where: str, params: Sequence[Any], records: int, messages: int, values: Mapping[str, Any]
) -> Allocation | None:
    assignments = ["next_seq = next_seq + %s", "next_step_order = next_step_order + %s"]
    bound: list[Any] = [records, messages]
    for column, value in values.items():
        if isinstance(value, Later):
            assignments.append(f"{column} = {sql.later()}")
            bound.append(value.seconds)
        else:
            assignments.append(f"{column} = %s")
            bound.append(sql.value(column, value))
    row = _one(
        f"UPDATE {_RUN} SET {', '.join(assignments)} WHERE id = %s AND {where} "
        f"RETURNING next_seq, next_step_order, cancel_requested_at, {sql.clock()}",
        [*bound, sql.uuid(run_id), *params],
    )
    if row is None:
        return None
    return Allocation(row[0] - records, row[1] - messages, dialect.time_out(row[3]), row[2] is not None)


def _place(row: tuple[Any, ...]) -> tuple[UUID, UUID, UUID, int, str]:
    return dialect.id_out(row[0]), dialect.id_out(row[1]), dialect.id_out(row[2]), row[3], row[4]


def _one(statement: str, params: Sequence[Any]) -> tuple[Any, ...] | None:
    with sql.connection().cursor() as cursor:
        cursor.execute(statement, params)
        row: tuple[Any, ...] | None = cursor.fetchone()
    return row
