"""What is noted of hints in the runs' rows: when the last one went out, and how many since somebody took the run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from uuid import UUID

from ..database import bulk, dialect
from ..models import Run

_RUN = Run._meta.db_table
# As far as its column goes: where nobody works for weeks, one run must not keep the others from their hints.
_ONE_MORE = f"CASE WHEN {_RUN}.dispatch_count < 30000 THEN {_RUN}.dispatch_count + 1 ELSE 30000 END"


def note(run_ids: Iterable[UUID]) -> None:
    """Note that a hint goes out for each of the runs; the rows are taken by id, as everybody takes them."""
    bulk.execute(_noting(dialect.clock()), [(run_id,) for run_id in sorted(set(run_ids))])


@dataclass(frozen=True)
class Seen:
    """An orphan as it was read, and whether the hints before were about something else, and are not counted."""

    run_id: UUID
    attempt: int
    dispatch_count: int
    afresh: bool


def note_where_unchanged(seen: Sequence[Seen]) -> list[UUID]:
    """Note that a hint goes out for each run that is still as it was read; returns which, in their order.

    A row that somebody holds at this moment is left out: it is being dealt with.
    """
    # The count, not the time: SQLite keeps times as text, of more than one precision.
    rows = [(item.run_id, item.attempt, item.dispatch_count, item.afresh) for item in seen]
    found = bulk.execute(_claiming(dialect.clock()), rows)
    noted = {dialect.id_out(row[0]) for row in found}
    return [item.run_id for item in seen if item.run_id in noted]


def take_back(run_ids: Sequence[UUID]) -> None:
    """Note that the hints did not go out: none is outstanding, and the runs that were not tried come first now."""
    bulk.execute(_taking_back(dialect.clock()), [(run_id,) for run_id in sorted(run_ids)])


@cache
def _noting(clock: str) -> bulk.Statement:
    lock = dialect.row_lock("run")
    return bulk.Statement(
        f", locked AS (SELECT run.id FROM {_RUN} run JOIN wanted ON wanted.id = run.id ORDER BY run.id{lock}) "
        f"UPDATE {_RUN} SET dispatched_at = {clock}, hint_failed_at = NULL, dispatch_count = {_ONE_MORE} "
        f"FROM locked WHERE {_RUN}.id = locked.id RETURNING {_RUN}.id",
        [bulk.column(Run, "id")],
    )


@cache
def _claiming(clock: str) -> bulk.Statement:
    lock = dialect.row_lock("run", skip_locked=True)
    return bulk.Statement(
        f", locked AS (SELECT run.id FROM {_RUN} run JOIN wanted ON wanted.id = run.id ORDER BY run.id{lock}) "
        f"UPDATE {_RUN} SET dispatched_at = {clock}, hint_failed_at = NULL, "
        f"dispatch_count = CASE WHEN wanted.afresh THEN 1 ELSE {_ONE_MORE} END "
        f"FROM wanted JOIN locked ON locked.id = wanted.id WHERE {_RUN}.id = wanted.id "
        f"AND {_RUN}.attempt = wanted.seen_attempt AND {_RUN}.dispatch_count = wanted.seen_count RETURNING {_RUN}.id",
        [
            bulk.column(Run, "id"),
            bulk.extra("seen_attempt", "integer"),
            bulk.extra("seen_count", "integer"),
            bulk.extra("afresh", "boolean"),
        ],
    )


@cache
def _taking_back(clock: str) -> bulk.Statement:
    lock = dialect.row_lock("run", skip_locked=True)
    return bulk.Statement(
        f", locked AS (SELECT run.id FROM {_RUN} run JOIN wanted ON wanted.id = run.id ORDER BY run.id{lock}) "
        f"UPDATE {_RUN} SET dispatched_at = NULL, dispatch_count = 0, hint_failed_at = {clock} "
        f"FROM locked WHERE {_RUN}.id = locked.id RETURNING {_RUN}.id",
        [bulk.column(Run, "id")],
    )
