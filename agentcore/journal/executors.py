"""The two executors of a batch: PostgreSQL's, one statement for all of it, and SQLite's, which goes step by step."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache, lru_cache, partial
from typing import Any
from uuid import UUID

from django.db import DataError, connection, transaction
from django.db.models import Model

from ..database import bulk, dialect
from ..models import Run
from ..streams import hints, log
from ..streams.log import Append, Own
from ..streams.models import Stream
from . import fence, parts
from .batch import Batch, MoveKind
from .commit import Moved, RunRow

DIVISION_BY_ZERO = "22012"
SHAPES = 256
"""How many statements are kept: batches differ in the tables that they write."""
STALE = "a row is not what its commit starts from"


@dataclass(frozen=True)
class Found:
    """How a request's rows stood when they were locked and, where the fence has let it through, what it was given.

    The fields are the columns of `STATEMENT` after the run's id, in their order. `last` says that the
    run has ended, and that no other waits for its turn in the thread.
    """

    free: bool
    thread_free: bool
    status: str | None
    attempt: int | None
    cancel_requested: bool
    next_seq: int | None = None
    next_step_order: int = 0
    now: datetime | None = None
    told_next_seq: int | None = None
    last: bool = False


def execute(batch: Batch, *, waits_for_threads: bool) -> dict[UUID, Found]:
    """Write a batch; raises `Moved` where one of its moves finds its row in another status."""
    if connection.vendor == "postgresql":
        return _on_postgres(batch, waits_for_threads=waits_for_threads)
    return _on_sqlite(batch)


# --- PostgreSQL: one statement --------------------------------------------------------------------------------------


STATEMENT = """
WITH wanted AS ({wanted}),
{locked},
fenced AS ({fence}),
shares AS ({shares}),
told AS ({telling}){parts}
SELECT wanted.id, runs.id IS NOT NULL, NOT wanted.in_thread OR threads.id IS NOT NULL,
    runs.held_status, runs.held_attempt, COALESCE(fenced.cancel_requested_at, runs.held_cancel) IS NOT NULL,
    fenced.next_seq, COALESCE(fenced.next_step_order, 0), fenced.now, told.next_seq - shares.later_tell,
    ({last}) IS TRUE{check}
FROM wanted LEFT JOIN runs ON runs.id = wanted.id LEFT JOIN threads ON threads.id = wanted.thread_stream
LEFT JOIN fenced ON fenced.id = wanted.id
LEFT JOIN shares ON shares.id = wanted.id LEFT JOIN told ON told.id = shares.thread_stream
"""

# Refuses all of it, by an error that nothing else here can raise, where a move has not found its row as it expects.
CHECK = """,
    1 / CASE WHEN {moved} = (
        SELECT COALESCE(sum(wanted.moves), 0) FROM wanted JOIN fenced ON fenced.id = wanted.id
    ) THEN 1 ELSE 0 END"""


def _on_postgres(batch: Batch, *, waits_for_threads: bool) -> dict[UUID, Found]:
    kinds, models = batch.in_order, batch.models
    records = [row for request in batch.requests for row in _records(batch, request.row)]
    ends = any(request.ends_its_run for request in batch.requests)
    clock = dialect.clock()
    text = _statement(tuple(kinds), tuple(models), bool(records), ends, waits_for_threads, clock)
    params = [
        fence.fenced(clock).json(fence.rows(batch)),
        *(parts.moving(kind, clock).json(batch.moves[kind]) for kind in kinds),
        *(parts.inserting(model).json(batch.inserts[model]) for model in models),
        *([parts.recording().json(records)] if records else []),
    ]
    try:
        rows = bulk.on_postgres(text, params)
    except DataError as error:
        if getattr(error.__cause__, "sqlstate", "") == DIVISION_BY_ZERO:
            raise Moved(STALE) from error
        raise
    found = {run_id: Found(*columns[: len(fields(Found))]) for run_id, *columns in rows}
    if any(it.next_seq is not None for it in found.values()):
        # Not a partial: where a robust hook raises, Django looks for its name, and a partial has none.
        transaction.on_commit(lambda: hints.publish(written(batch, found)), robust=True)
    return found


@lru_cache(SHAPES)
def _statement(
    kinds: tuple[MoveKind, ...],
    models: tuple[type[Model], ...],
    records: bool,
    ends: bool,
    waits_for_threads: bool,
    clock: str,
) -> str:
    """Return the statement for batches of one shape."""
    named = [(f"moved_{number}", parts.moving(kind, clock)) for number, kind in enumerate(kinds)]
    moved = " + ".join(f"(SELECT count(*) FROM {name})" for name, _ in named)
    texts = [f"{name} AS ({bulk.with_rows(statement)})" for name, statement in named]
    # Moves first: a step ends in the statement in which the next one begins, and one is open at a time.
    after = f" AND {moved} >= 0" if moved else ""
    new = [bulk.with_rows(parts.inserting(model), after) for model in models]
    texts += [f"new_{number} AS ({text})" for number, text in enumerate(new)]
    texts += [f"records AS ({bulk.with_rows(parts.recording())})"] if records else []
    texts += [f"closed AS ({parts.CLOSING})"] if ends else []
    return STATEMENT.format(
        wanted=fence.fenced(clock).rows_of_json(),
        locked=fence.locked(waits_for_threads=waits_for_threads),
        fence=fence.fenced(clock).text,
        shares=parts.SHARES,
        telling=parts.TELLING,
        parts="".join(f",\n{text}" for text in texts),
        last=f"wanted.ends AND {parts.NONE_WAITS} AND {parts.THREAD_UNCHANGED}" if ends else "FALSE",
        check=CHECK.format(moved=moved) if moved else "",
    )


def _records(batch: Batch, row: RunRow) -> list[tuple[Any, ...]]:
    return [
        (
            row.run_id,
            stream_id,
            stream_id == row.thread_stream_id,
            len(said) - number,
            len(said),
            item.back,
            item.text.later,
            item.text.text,
        )
        for stream_id, said in batch.logs(row)
        for number, item in enumerate(said)
    ]


# --- SQLite: one writer, so that nothing changes in between ---------------------------------------------------------


LAST = f"SELECT wanted.id FROM wanted WHERE wanted.ends AND {parts.NONE_WAITS}"


def _on_sqlite(batch: Batch) -> dict[UUID, Found]:
    clock, wanted = dialect.clock(), fence.rows(batch)
    passed = {dialect.id_out(row[0]): row[1:] for row in bulk.on_sqlite(_fence(clock), wanted)}
    found = _refused(batch, passed.keys())
    if not passed:
        return found
    rows = [(dialect.id_in(run_id), next_seq, places, now) for run_id, (next_seq, places, _, now) in passed.items()]
    fenced = bulk.Table("fenced", ("id", "next_seq", "next_step_order", "now"), rows)
    moved = sum(len(bulk.on_sqlite(parts.moving(kind, clock), batch.moves[kind], fenced)) for kind in batch.in_order)
    if moved != sum(batch.moves_of[run_id] for run_id in passed):
        raise Moved(STALE)
    for model in batch.models:
        bulk.on_sqlite(parts.inserting(model), batch.inserts[model], fenced)
    ends = any(request.ends_its_run for request in batch.requests)
    last = {dialect.id_out(row[0]) for row in bulk.on_sqlite(_beside(LAST), wanted)} if ends else set()
    for run_id, (next_seq, places, cancel, now) in passed.items():
        at = dialect.time_out(now)
        found[run_id] = Found(True, True, None, None, cancel is not None, next_seq, places, at, None, run_id in last)
    _store(batch, found)
    if ends:
        bulk.on_sqlite(_beside(parts.CLOSING), wanted, fenced)
    return found


def _store(batch: Batch, found: Mapping[UUID, Found]) -> None:
    """Store and announce the records, and allocate positions in the logs of threads."""
    told: dict[UUID, list[log.Encoder]] = {}
    for request in batch.requests:
        row, it = request.row, found[request.row.run_id]
        if it.now is not None:
            for item in batch.told[row.run_id]:
                encode = partial(item.text.filled, place=it.next_step_order - item.back)
                told.setdefault(row.thread_stream_id, []).append(encode)
    log.store(list(written(batch, found)), [Own(stream_id, encoders) for stream_id, encoders in told.items()])


@cache
def _fence(clock: str) -> bulk.Statement:
    fenced = fence.fenced(clock)
    return bulk.Statement(f", {fence.locked(waits_for_threads=True)} {fenced.text}", fenced.columns)


@cache
def _beside(text: str) -> bulk.Statement:
    return bulk.Statement(text, fence.fenced(dialect.clock()).columns)


def _refused(batch: Batch, passed: Container[UUID]) -> dict[UUID, Found]:
    """Return how the rows of the runs stand that the fence did not let through."""
    refused = [request.row for request in batch.requests if request.row.run_id not in passed]
    runs = Run.objects.in_bulk([row.run_id for row in refused]) if refused else {}
    open_logs = Stream.objects.filter(pk__in=[row.thread_stream_id for row in refused], closed_at=None)
    logs = set(open_logs.values_list("pk", flat=True)) if refused else set()
    found = {}
    for row in refused:
        run = runs.get(row.run_id)
        status, attempt = (run.status, run.attempt) if run else (None, None)
        cancel = run is not None and run.cancel_requested_at is not None
        found[row.run_id] = Found(run is not None, row.thread_stream_id in logs, status, attempt, cancel)
    return found


# --- what was stored -------------------------------------------------------------------------------------------------


def written(batch: Batch, found: Mapping[UUID, Found]) -> Iterator[Append]:
    """Return the records of a batch as they are stored."""
    for request in batch.requests:
        row, it = request.row, found[request.row.run_id]
        ends = {row.stream_id: it.next_seq, row.thread_stream_id: it.told_next_seq}
        for stream_id, said in batch.logs(row):
            end = ends[stream_id]
            if said and end is not None and it.now is not None:
                first = end - len(said)
                texts = [
                    item.text.filled(seq, it.now, it.next_step_order - item.back)
                    for seq, item in enumerate(said, first)
                ]
                yield Append(stream_id, first, texts)
