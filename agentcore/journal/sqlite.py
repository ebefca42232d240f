"""A batch on SQLite: the parts of the one statement, one by one; it has one writer, so nothing changes in between."""

from __future__ import annotations

from collections.abc import Container, Sequence
from functools import cache
from typing import Any
from uuid import UUID

from ..database import bulk, dialect
from ..models import Run
from ..streams.models import Stream
from . import fence, parts
from .batch import Batch
from .commit import Moved
from .found import Found

FENCED = bulk.Table(
    [
        bulk.an_id("id"),
        *(bulk.extra(name, "integer") for name in ("next_seq", "next_step_order")),
        *(bulk.extra(name, "text") for name in ("cancel_requested_at", "now")),
    ]
)
SHARES = bulk.Table(
    [
        bulk.an_id("id"),
        bulk.an_id("thread_stream"),
        bulk.extra("all_tell", "integer"),
        bulk.extra("later_tell", "integer"),
    ]
)
TOLD = bulk.Table([bulk.an_id("id"), bulk.extra("next_seq", "integer")])
LAST = f"SELECT wanted.id FROM wanted WHERE wanted.ends AND {parts.NONE_WAITS}"


class Steps:
    """Statements that PostgreSQL has as parts of one; each reads, beside its own rows, what others have returned."""

    def __init__(self) -> None:
        self._beside: dict[str, bulk.Table] = {}
        self._params: list[str] = []

    def run(self, statement: bulk.Statement, rows: Sequence[Sequence[Any]]) -> bulk.Rows:
        """Run a statement on its rows, and return what it returns."""
        return self.run_json(statement, statement.json(rows))

    def run_json(self, statement: bulk.Statement, rows: str) -> bulk.Rows:
        """Run a statement on rows that are JSON already."""
        return bulk.run(bulk.with_rows(statement, **self._beside), [rows, *self._params])

    def keep(self, name: str, table: bulk.Table, rows: bulk.Rows) -> bulk.Rows:
        """Let the statements that follow read these rows as a table."""
        self._beside[name] = table
        self._params.append(table.json(rows))
        return rows


def execute(batch: Batch) -> dict[UUID, Found]:
    """Write a batch; raises `Moved` where one of its moves finds its row in another status."""
    clock, steps = dialect.clock(), Steps()
    wanted = fence.fenced(clock).json(fence.rows(batch))
    passed = steps.keep("fenced", FENCED, steps.run_json(_fence(clock), wanted))
    given = {dialect.id_out(run_id): tuple(columns) for run_id, *columns in passed}
    found = _refused(batch, given.keys())
    if not given:
        return found
    moved = sum(len(steps.run(parts.moving(kind, clock), batch.moves[kind])) for kind in batch.in_order)
    if moved != sum(batch.moves_of[run_id] for run_id in given):
        raise Moved
    for model in batch.models:
        steps.run(parts.inserting(model), batch.inserts[model])
    last = {dialect.id_out(row[0]) for row in steps.run_json(_of_requests(LAST), wanted)} if batch.ends else set()
    shares = steps.keep("shares", SHARES, steps.run_json(_of_requests(parts.SHARES), wanted))
    told: dict[str, int] = dict(steps.keep("told", TOLD, steps.run_json(_of_requests(parts.TELLING), wanted)))
    tells = {dialect.id_out(run_id): told[stream] - later for run_id, stream, _, later in shares}
    if records := batch.record_rows():
        steps.run(parts.recording(), records)
    if batch.ends:
        steps.run_json(_of_requests(parts.CLOSING), wanted)
    for run_id, (next_seq, places, cancel, now) in given.items():
        at, cancels = dialect.time_out(now), cancel is not None
        found[run_id] = Found(True, True, None, None, cancels, next_seq, places, at, tells.get(run_id), run_id in last)
    return found


@cache
def _fence(clock: str) -> bulk.Statement:
    return _of_requests(f", {fence.locked(waits_for_threads=True)} {fence.fenced(clock).text}")


@cache
def _of_requests(text: str) -> bulk.Statement:
    return bulk.Statement(text, fence.fenced(dialect.clock()).columns)


def _refused(batch: Batch, passed: Container[UUID]) -> dict[UUID, Found]:
    """Return how the rows of the runs stand that the fence did not let through."""
    refused = [request.row for request in batch.requests if request.row.run_id not in passed]
    if not refused:
        return {}
    runs = Run.objects.in_bulk([row.run_id for row in refused])
    open_logs = Stream.objects.filter(pk__in=[row.thread_stream_id for row in refused], closed_at=None)
    logs = set(open_logs.values_list("pk", flat=True))
    found = {}
    for row in refused:
        run = runs.get(row.run_id)
        status, attempt = (run.status, run.attempt) if run else (None, None)
        cancel = run is not None and run.cancel_requested_at is not None
        found[row.run_id] = Found(run is not None, row.thread_stream_id in logs, status, attempt, cancel)
    return found
