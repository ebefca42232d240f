"""Hold a run's row for a moment, as everybody does who waits for it: who is not the run's worker, and an atomic tool.

A worker's batch never waits for a row that somebody else has locked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from ..clock import Later
from ..exceptions import LeaseLost
from ..models import Run, Thread
from ..states import LIVE_RUN_STATUSES, RunStatus, check_move
from ..streams import dialect
from . import sql
from .row import Allocation, RunRow

_RUN = Run._meta.db_table
_ROW = (
    "thread_id, stream_id, "
    f"(SELECT thread.stream_id FROM {Thread._meta.db_table} thread WHERE thread.id = {_RUN}.thread_id), number, agent"
)


@dataclass(frozen=True)
class Held(RunRow):
    """A run's row, locked until the end of the surrounding transaction."""

    status: RunStatus
    attempt: int
    now: datetime


def hold(run_id: UUID, statuses: Sequence[RunStatus] = LIVE_RUN_STATUSES) -> Held | None:
    """Lock a run's row, and wait for it where somebody holds it; None where its status is another.

    The caller is in a transaction, and holds neither a thread's nor any lower row yet.
    """
    names = ", ".join(["%s"] * len(statuses))
    row = _one(
        f"UPDATE {_RUN} SET next_seq = next_seq WHERE id = %s AND status IN ({names}) "
        f"RETURNING {_ROW}, status, attempt, {sql.clock()}",
        [sql.uuid(run_id), *(status.value for status in statuses)],
    )
    return None if row is None else Held(run_id, *_place(row), RunStatus(row[5]), row[6], dialect.time_out(row[7]))


def hold_all(run_ids: Iterable[UUID]) -> dict[UUID, Held]:
    """Lock the rows of several live runs, by id as every transaction does; those that have ended are left out."""
    found = ((run_id, hold(run_id)) for run_id in sorted(run_ids))
    return {run_id: held for run_id, held in found if held is not None}


def wait_no_longer_than(milliseconds: int) -> None:
    """Have the caller's transaction fail, as by a conflict, rather than wait longer for a row that somebody holds."""
    connection = sql.connection()
    if connection.vendor == "postgresql":  # SQLite has no rows to hold, and a time limit of its own
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [str(milliseconds)])


def allocate(held: Held, *, records: int, messages: int, values: Mapping[str, Any]) -> Allocation:
    """Allocate positions and set columns of a run whose row is held."""
    target = RunStatus(values.get("status", held.status))
    check_move(held.status, target)
    columns = dict(values)
    if target is not held.status:
        columns["lease_expires_at"] = columns["available_at"] = columns["version_missing_since"] = None
        columns["finished_at"] = Later(0) if target.terminal else None
    assignments = ["next_seq = next_seq + %s", "next_step_order = next_step_order + %s"]
    if held.status is RunStatus.RUNNING is not target:
        assignments += [f"running_seconds = running_seconds + {sql.seconds_since('running_since')}"]
        assignments += ["running_since = NULL"]
    bound: list[Any] = [records, messages]
    for column, value in columns.items():
        if isinstance(value, Later):
            assignments.append(f"{column} = {sql.later()}")
            bound.append(value.seconds)
        else:
            assignments.append(f"{column} = %s")
            bound.append(sql.value(column, value))
    row = _one(
        f"UPDATE {_RUN} SET {', '.join(assignments)} WHERE id = %s AND status = %s "
        f"RETURNING next_seq, next_step_order, cancel_requested_at, {sql.clock()}",
        [*bound, sql.uuid(held.run_id), held.status.value],
    )
    if row is None:
        raise LeaseLost
    return Allocation(row[0] - records, row[1] - messages, dialect.time_out(row[3]), row[2] is not None)


def _place(row: tuple[Any, ...]) -> tuple[UUID, UUID, UUID, int, str]:
    return dialect.id_out(row[0]), dialect.id_out(row[1]), dialect.id_out(row[2]), row[3], row[4]


def _one(statement: str, params: Sequence[Any]) -> tuple[Any, ...] | None:
    with sql.connection().cursor() as cursor:
        cursor.execute(statement, params)
        row: tuple[Any, ...] | None = cursor.fetchone()
    return row
