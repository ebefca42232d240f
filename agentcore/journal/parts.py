"""The parts of a batch beside the fence. Each joins `fenced`, the rows of the runs that the fence has let through."""

from __future__ import annotations

from functools import cache

from django.db.models import Model

from ..database import bulk, dialect
from ..models import Message
from ..streams.models import Record, Stream
from ..values import holes
from .batch import MoveKind, times

_STREAMS, _RECORDS = Stream._meta.db_table, Record._meta.db_table

SHARES = """
SELECT wanted.id, wanted.thread_stream,
    SUM(wanted.tells) OVER (PARTITION BY wanted.thread_stream) AS all_tell,
    SUM(wanted.tells) OVER (PARTITION BY wanted.thread_stream ORDER BY wanted.id DESC) - wanted.tells AS later_tell
FROM wanted JOIN fenced ON fenced.id = wanted.id WHERE wanted.tells > 0
"""
"""How many records the logs of threads get, and how many of them come after those of a run: `shares`."""

TELLING = f"""
UPDATE {_STREAMS} SET next_seq = {_STREAMS}.next_seq + shares.all_tell
FROM shares WHERE {_STREAMS}.id = shares.thread_stream AND shares.later_tell = 0
RETURNING {_STREAMS}.id, {_STREAMS}.next_seq
"""
"""Allocates positions in the logs of threads: `told`."""

CLOSING = f"""
UPDATE {_STREAMS} SET closed_at = COALESCE(closed_at, fenced.now)
FROM wanted JOIN fenced ON fenced.id = wanted.id
WHERE {_STREAMS}.id = wanted.stream_id AND wanted.ends
RETURNING {_STREAMS}.id
"""
"""Closes the logs of runs that end."""

NONE_WAITS = """
NOT EXISTS (SELECT 1 FROM agentcore_run waiting
    WHERE waiting.thread_id = wanted.thread_id AND waiting.queued AND waiting.status = 'pending')
"""
"""Whether no run waits for its turn in a thread; one that was sent since the statement began is not seen."""

THREAD_UNCHANGED = f"""
threads.thread_end = (SELECT stream.next_seq FROM {_STREAMS} stream WHERE stream.id = wanted.thread_stream)
"""
"""Whether what this statement sees of a thread is no older than its lock: every send adds to the thread's log."""

RECORDS = f"""
INSERT INTO {_RECORDS} (stream_id, seq, append_seq, data, created_at)
SELECT wanted.stream_id, {{ends}} - wanted.back, {{ends}} - wanted.appended, {{data}}, fenced.now
FROM wanted JOIN fenced ON fenced.id = wanted.run
LEFT JOIN told ON told.id = wanted.stream_id LEFT JOIN shares ON shares.id = wanted.run
"""
"""Stores records; each counts back from where its log ends, or what its run tells its thread's."""


@cache
def recording() -> bulk.Statement:
    """Return the statement that stores records, and fills their holes."""
    ends = "CASE WHEN wanted.in_thread THEN told.next_seq - shares.later_tell ELSE fenced.next_seq END"
    later = dialect.stamp(dialect.after("fenced.now", "wanted.later"))
    fillings = {
        holes.SEQ: f"CAST({ends} - wanted.back AS text)",
        holes.TIME: dialect.stamp("fenced.now"),
        holes.LATER: f"COALESCE({later}, '')",
        holes.PLACE: "CAST(fenced.next_step_order - wanted.place AS text)",
    }
    data = "wanted.text"
    for hole, filling in fillings.items():
        data = f"replace({data}, {dialect.character(ord(hole))}, {filling})"
    columns = [bulk.an_id("run"), bulk.an_id("stream_id"), *(bulk.extra(*item) for item in _RECORD)]
    return bulk.Statement(RECORDS.format(ends=ends, data=dialect.utf8(data)), columns)


_RECORD = (
    ("in_thread", "boolean"),
    ("back", "bigint"),
    ("appended", "bigint"),
    ("place", "integer"),
    ("later", "float"),
    ("text", "text"),
)


@cache
def moving(kind: MoveKind, clock: str) -> bulk.Statement:
    """Return the statement that moves stored rows, those that are still what their commits start from."""
    table = kind.model._meta.db_table
    columns = [bulk.column(kind.model, name) for name in kind.names]
    # Named apart from the columns they go to, which the condition reads as they were.
    wanted = [_column(f"new_{item.name}", item, kind.model) for item in columns]
    values = ", ".join(
        f"{column.name} = {_read(new, column, kind.model)}" for column, new in zip(columns, wanted, strict=True)
    )
    until = f" AND {table}.{kind.until} > {clock}" if kind.until else ""
    unset = f" AND {table}.{kind.unset} IS NULL" if kind.unset else ""
    return bulk.Statement(
        f"UPDATE {table} SET {values} FROM wanted JOIN fenced ON fenced.id = wanted.run "
        f"WHERE {table}.id = wanted.id AND {table}.status = wanted.source{until}{unset} RETURNING {table}.id",
        [bulk.an_id("run"), bulk.column(kind.model, "id"), bulk.extra("source", "text"), *wanted],
    )


@cache
def inserting(model: type[Model]) -> bulk.Statement:
    """Return the statement that inserts rows."""
    columns = [bulk.column(model, field.name) for field in model._meta.concrete_fields]
    wanted = [_column(item.name, item, model) for item in columns]
    into = ", ".join(f'"{item.name}"' for item in columns)
    values = ", ".join(_read(new, column, model) for column, new in zip(columns, wanted, strict=True))
    source = "FROM wanted JOIN fenced ON fenced.id = wanted.run"
    return bulk.Statement(
        f"INSERT INTO {model._meta.db_table} ({into}) SELECT {values} {source}",
        [bulk.an_id("run"), *wanted],
    )


def _column(name: str, column: bulk.Column, model: type[Model]) -> bulk.Column:
    """Return the column that a value travels in: of a time, its seconds after the write."""
    return bulk.extra(name, "float") if column.name in times(model) else bulk.Column(name, column.type, column.field)


def _read(new: bulk.Column, column: bulk.Column, model: type[Model]) -> str:
    if column.name in times(model):
        return dialect.after("fenced.now", f'wanted."{new.name}"')
    if model is Message and column.name == "step_order":
        return f'fenced.next_step_order - wanted."{new.name}"'
    return f'wanted."{new.name}"'
