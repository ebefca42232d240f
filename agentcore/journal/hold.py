"""Hold a run's row for a moment, as everybody does who waits for it: who is not the run's worker, and an atomic tool.

A worker's batch never waits for a row that somebody else has locked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Field

from ..database import bulk, dialect
from ..exceptions import LeaseLost
from ..models import Run, Thread
from ..states import LIVE_RUN_STATUSES, RunStatus, check_move
from ..values.clock import Later
from .row import Allocation, RunRow, seconds_until_lapse

_RUN = Run._meta.db_table


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
    return hold_all([run_id], statuses).get(run_id)


def hold_all(run_ids: Iterable[UUID], statuses: Sequence[RunStatus] = LIVE_RUN_STATUSES) -> dict[UUID, Held]:
    """Do what `hold` does for several runs, by id as every transaction does; those of another status are left out."""
    wanted = [(run_id,) for run_id in sorted(set(run_ids))]
    found = bulk.execute(_holding(dialect.clock(), tuple(statuses)), wanted)
    held = map(_held, found)
    return {item.run_id: item for item in held}


def _held(row: tuple[Any, ...]) -> Held:
    run, thread, stream, thread_stream = (dialect.id_out(value) for value in row[:4])
    number, agent, status, attempt, now = row[4:]
    return Held(run, thread, stream, thread_stream, number, agent, RunStatus(status), attempt, dialect.time_out(now))


@cache
def _holding(clock: str, statuses: tuple[RunStatus, ...]) -> bulk.Statement:
    names = ", ".join(f"'{status.value}'" for status in statuses)
    lock = dialect.row_lock("run")
    thread = f"(SELECT thread.stream_id FROM {Thread._meta.db_table} thread WHERE thread.id = {_RUN}.thread_id)"
    return bulk.Statement(
        f", locked AS (SELECT run.id FROM {_RUN} run JOIN wanted ON wanted.id = run.id ORDER BY run.id{lock}) "
        f"UPDATE {_RUN} SET next_seq = next_seq FROM locked WHERE {_RUN}.id = locked.id AND {_RUN}.status IN ({names}) "
        f"RETURNING {_RUN}.id, thread_id, {_RUN}.stream_id, {thread}, number, agent, status, attempt, {clock}",
        [bulk.column(Run, "id")],
    )


def wait_no_longer_than(milliseconds: int) -> None:
    """Have the caller's transaction fail, as by a conflict, rather than wait longer for a row that somebody holds."""
    if connection.vendor == "postgresql":  # SQLite has no rows to hold, and a time limit of its own
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [str(milliseconds)])


@dataclass(frozen=True)
class Need:
    """What a write needs of a row that is held: positions, and new values of columns."""

    held: Held
    records: int
    messages: int
    values: Mapping[str, Any]


def allocate(needs: Sequence[Need]) -> dict[UUID, Allocation]:
    """Allocate positions and set columns of runs whose rows are held: one statement for all that change alike."""
    alike: dict[tuple[RunStatus, tuple[tuple[str, Any], ...]], list[Need]] = {}
    for need in needs:
        alike.setdefault((need.held.status, tuple(_columns(need).items())), []).append(need)
    allocated: dict[UUID, Allocation] = {}
    for (status, columns), group in alike.items():
        allocated.update(_allocate(status, dict(columns), group))
    if len(allocated) < len(needs):
        raise LeaseLost
    return allocated


def _columns(need: Need) -> dict[str, Any]:
    """Return the columns to set, with those that follow from a change of the status."""
    held, columns = need.held, dict(need.values)
    target = RunStatus(columns.get("status", held.status))
    check_move(held.status, target)
    if target is not held.status:
        columns["lease_expires_at"] = columns["available_at"] = columns["version_missing_since"] = None
        columns["finished_at"] = Later(0) if target.terminal else None
    return columns


def _allocate(status: RunStatus, columns: Mapping[str, Any], needs: Sequence[Need]) -> dict[UUID, Allocation]:
    stops = status is RunStatus.RUNNING is not columns.get("status", status)
    later = tuple(name for name, value in columns.items() if isinstance(value, Later))
    statement = _allocating(dialect.clock(), tuple(columns), later, stops)
    values = [value.seconds if isinstance(value, Later) else _stored(name, value) for name, value in columns.items()]
    wanted = {need.held.run_id: need for need in needs}
    rows = [(need.held.run_id, need.records, need.messages) for need in needs]
    allocated = {}
    for row in bulk.execute(statement, rows, [*values, status.value]):
        need = wanted[dialect.id_out(row[0])]
        now = dialect.time_out(row[4])
        allocated[need.held.run_id] = Allocation(
            row[1] - need.records, row[2] - need.messages, now, cancel_requested=row[3] is not None
        )
    return allocated


def _stored(name: str, value: Any) -> Any:
    field: Field[Any, Any] = Run._meta.get_field(name)  # type: ignore[assignment]
    return field.get_db_prep_save(value, connection)


@cache
def _allocating(clock: str, columns: tuple[str, ...], later: tuple[str, ...], stops: bool) -> bulk.Statement:
    assignments = [f"{name} = {dialect.later() if name in later else '%s'}" for name in columns]
    if stops:
        assignments += [f"running_seconds = running_seconds + {seconds_until_lapse()}"]
        assignments += ["running_since = NULL"]
    more = "".join(f", {assignment}" for assignment in assignments)
    return bulk.Statement(
        f"UPDATE {_RUN} SET next_seq = next_seq + wanted.records, "
        f"next_step_order = next_step_order + wanted.said{more} "
        f"FROM wanted WHERE {_RUN}.id = wanted.id AND {_RUN}.status = %s "
        f"RETURNING {_RUN}.id, next_seq, next_step_order, cancel_requested_at, {clock}",
        [bulk.column(Run, "id"), bulk.extra("records", "bigint"), bulk.extra("said", "integer")],
    )
