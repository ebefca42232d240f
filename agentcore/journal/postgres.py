"""A batch on PostgreSQL: one statement for all of it, which commits by itself where no transaction is open."""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache
from uuid import UUID

from django.db import DataError
from django.db.models import Model

from ..database import bulk, dialect
from . import fence, parts
from .batch import Batch, MoveKind
from .commit import Moved
from .found import Found

DIVISION_BY_ZERO = "22012"
SHAPES = 256
"""How many statements are kept: batches differ in the tables that they write."""

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


def execute(batch: Batch, *, waits_for_threads: bool) -> dict[UUID, Found]:
    """Write a batch; raises `Moved` where one of its moves finds its row in another status."""
    kinds, models = batch.in_order, batch.models
    records, clock = batch.record_rows(), dialect.clock()
    text = _statement(tuple(kinds), tuple(models), bool(records), batch.ends, waits_for_threads, clock)
    params = [
        fence.fenced(clock).json(fence.rows(batch)),
        *(parts.moving(kind, clock).json(batch.moves[kind]) for kind in kinds),
        *(parts.inserting(model).json(batch.inserts[model]) for model in models),
        *([parts.recording().json(records)] if records else []),
    ]
    try:
        rows = bulk.run(text, params)
    except DataError as error:
        if getattr(error.__cause__, "sqlstate", "") == DIVISION_BY_ZERO:
            raise Moved from error
        raise
    return {run_id: Found(*columns[: len(fields(Found))]) for run_id, *columns in rows}


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
        wanted=fence.fenced(clock).query(),
        locked=fence.locked(waits_for_threads=waits_for_threads),
        fence=fence.fenced(clock).text,
        shares=parts.SHARES,
        telling=parts.TELLING,
        parts="".join(f",\n{text}" for text in texts),
        last=f"wanted.ends AND {parts.NONE_WAITS} AND {parts.THREAD_UNCHANGED}" if ends else "FALSE",
        check=CHECK.format(moved=moved) if moved else "",
    )
