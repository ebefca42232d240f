"""Write and read streams: the only place that touches their rows.

A record's position is allocated under a row lock held until the commit, so positions become visible in
order and without gaps, and a reader that asks for "everything after n" can never miss one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from . import dialect, hints
from .exceptions import StreamClosed, StreamMissing
from .models import Record, Sequencer, Stream

__all__ = ["Append", "Encoder", "Entry", "append", "close", "create", "read", "read_batch", "write", "write_many"]

Encoder = Callable[[int, datetime], bytes]
"""Given a position and the database's time, return the bytes to store."""

_RECORDS = Record._meta.db_table
_STREAMS = Stream._meta.db_table
_ROWS_PER_INSERT = 200  # four variables a row, and SQLite's oldest limit is 999
_STREAMS_PER_SELECT = 100  # SQLite takes 500 terms in a compound SELECT


@dataclass(frozen=True, slots=True)
class Entry:
    """One record as a reader gets it."""

    stream_id: UUID
    seq: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Append:
    """Payloads to store at positions the caller has allocated."""

    stream_id: UUID
    first_seq: int
    payloads: Sequence[bytes]


def create(name: str, sequencer: str = Sequencer.OWN, content_type: str = "application/json") -> Stream:
    """Create an empty stream."""
    return Stream.objects.using(_alias()).create(name=name, sequencer=sequencer, content_type=content_type)


def write(stream_id: UUID, first_seq: int, payloads: Sequence[bytes]) -> None:
    """Store payloads at positions the caller allocated, in the caller's transaction.

    The caller holds the row that allocates; the log only guards uniqueness.
    """
    write_many([Append(stream_id, first_seq, payloads)])


def write_many(appends: Sequence[Append]) -> None:
    """Store the appends of many streams with one statement; see `write`."""
    alias = _alias()
    if not connections[alias].in_atomic_block:
        raise transaction.TransactionManagementError("log.write needs the transaction that allocated the positions")
    _insert(connections[alias], appends)
    for item in appends:
        _announce(alias, item)


def append(stream_id: UUID, encoders: Sequence[Encoder]) -> int:
    """Allocate positions in the stream's own row, store what the encoders make, return the first position.

    Joins an open transaction, else opens one.
    """
    alias = _alias()
    with transaction.atomic(using=alias):
        connection = connections[alias]
        first_seq, now = _allocate(connection, stream_id, len(encoders))
        payloads = [encode(first_seq + offset, now) for offset, encode in enumerate(encoders)]
        item = Append(stream_id, first_seq, payloads)
        _insert(connection, [item])
        _announce(alias, item)
    return first_seq


def close(stream_id: UUID) -> None:
    """Close a stream for good; closing it twice is no error."""
    alias = _alias()
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        cursor.execute(
            f"UPDATE {_STREAMS} SET closed_at = COALESCE(closed_at, {dialect.clock(connections[alias])}) WHERE id = %s",
            [dialect.id_in(connections[alias], stream_id)],
        )
        if not cursor.rowcount:
            raise StreamMissing(str(stream_id))


def read(stream_id: UUID, after: int = -1, limit: int = 500) -> list[Entry]:
    """Return up to `limit` entries after a position, in order."""
    return read_batch({stream_id: after}, limit)[stream_id]


def read_batch(cursors: Mapping[UUID, int], limit: int = 500) -> dict[UUID, list[Entry]]:
    """Return up to `limit` entries of each stream after its position; every asked stream has a key."""
    connection = connections[_alias()]
    found: dict[UUID, list[Entry]] = {stream_id: [] for stream_id in cursors}
    wanted = list(cursors.items())
    for start in range(0, len(wanted), _STREAMS_PER_SELECT):
        _select(connection, wanted[start : start + _STREAMS_PER_SELECT], limit, found)
    return found


def _alias() -> str:
    # Reads go where writes go: a replica that lags would turn every hint into a wait for the next poll.
    return router.db_for_write(Stream)


def _allocate(connection: BaseDatabaseWrapper, stream_id: UUID, count: int) -> tuple[int, datetime]:
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {_STREAMS} SET next_seq = next_seq + %s WHERE id = %s AND sequencer = %s AND closed_at IS NULL "
            f"RETURNING next_seq, {dialect.clock(connection)}",
            [count, dialect.id_in(connection, stream_id), Sequencer.OWN.value],
        )
        rows = cursor.fetchall()
    if not rows:
        raise _refusal(connection.alias, stream_id)
    next_seq, now = rows[0]
    return next_seq - count, dialect.time_out(now)


def _refusal(alias: str, stream_id: UUID) -> StreamClosed | StreamMissing:
    stream = Stream.objects.using(alias).filter(pk=stream_id).first()
    if stream is None:
        return StreamMissing(f"There is no stream {stream_id}.")
    if stream.sequencer != Sequencer.OWN:
        return StreamMissing(f"The positions of stream {stream_id} are allocated by its writer.")
    return StreamClosed(f"Stream {stream_id} is closed.")


def _insert(connection: BaseDatabaseWrapper, appends: Iterable[Append]) -> None:
    rows = [
        (dialect.id_in(connection, item.stream_id), item.first_seq + offset, item.first_seq, payload)
        for item in appends
        for offset, payload in enumerate(item.payloads)
    ]
    row = f"(%s, %s, %s, %s, {dialect.clock(connection)})"
    with connection.cursor() as cursor:
        for start in range(0, len(rows), _ROWS_PER_INSERT):
            chunk = rows[start : start + _ROWS_PER_INSERT]
            cursor.execute(
                f"INSERT INTO {_RECORDS} (stream_id, seq, append_seq, data, created_at) "
                f"VALUES {', '.join([row] * len(chunk))}",
                [value for values in chunk for value in values],
            )


def _select(
    connection: BaseDatabaseWrapper,
    wanted: Sequence[tuple[UUID, int]],
    limit: int,
    found: dict[UUID, list[Entry]],
) -> None:
    # One index range per stream, each with its own limit; the outer SELECT is what SQLite needs to take it.
    one = (
        f"SELECT * FROM (SELECT %s AS position, seq, data FROM {_RECORDS} "
        "WHERE stream_id = %s AND seq > %s ORDER BY seq LIMIT %s) AS page"
    )
    params: list[Any] = []
    for position, (stream_id, after) in enumerate(wanted):
        params += [position, dialect.id_in(connection, stream_id), after, limit]
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join([one] * len(wanted)) + " ORDER BY 1, 2", params)
        for position, seq, data in cursor.fetchall():
            stream_id = wanted[position][0]
            found[stream_id].append(Entry(stream_id, seq, bytes(data)))


def _announce(alias: str, item: Append) -> None:
    if item.payloads:
        # Not a partial: where a robust hook raises, Django looks for its name, and a partial has none.
        transaction.on_commit(
            lambda: hints.publish(item.stream_id, item.first_seq, item.payloads), using=alias, robust=True
        )
