"""Write and read streams: the only place that touches their rows.

A record's position is allocated under a row lock held until the commit, so positions become visible in
order and without gaps, and a reader that asks for "everything after n" can never miss one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from ..database import bulk, dialect
from . import hints
from .exceptions import StreamClosed, StreamMissing
from .models import Record, Sequencer, Stream

__all__ = [
    "Append",
    "Encoder",
    "Entry",
    "Own",
    "announce",
    "append",
    "create",
    "read",
    "read_batch",
    "refusal",
    "store",
]

Encoder = Callable[[int, datetime], bytes]
"""Given a position and the database's time, return the bytes to store."""

_RECORDS = Record._meta.db_table
_STREAMS = Stream._meta.db_table
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


@dataclass(frozen=True, slots=True)
class Own:
    """Records for a stream that allocates its positions itself."""

    stream_id: UUID
    encoders: Sequence[Encoder]


def create(name: str, sequencer: str = Sequencer.OWN, content_type: str = "application/json") -> Stream:
    """Create an empty stream."""
    return Stream.objects.create(name=name, sequencer=sequencer, content_type=content_type)


def append(stream_id: UUID, encoders: Sequence[Encoder]) -> int:
    """Allocate positions in the stream's own row, store what the encoders make, return the first position.

    Joins an open transaction, else opens one.
    """
    with transaction.atomic():
        return store([], [Own(stream_id, encoders)])[stream_id]


def store(appends: Sequence[Append], own: Sequence[Own] = ()) -> dict[UUID, int]:
    """Store the records of many streams with one statement, in the caller's transaction, and announce them.

    Returns the first position given to each stream that allocates its own.
    """
    if not connection.in_atomic_block:
        raise transaction.TransactionManagementError("the log needs the transaction that allocates the positions")
    allocated = _allocate(own) if own else {}
    encoded = [_encoded(item, *allocated[item.stream_id]) for item in own]
    written = [item for item in (*appends, *encoded) if item.payloads]
    records = [
        (item.stream_id, item.first_seq + offset, item.first_seq, payload)
        for item in written
        for offset, payload in enumerate(item.payloads)
    ]
    if records:
        columns = ("stream", "seq", "append_seq", "data")
        bulk.execute(bulk.inserting(Record, columns, created_at=dialect.clock()), records)
        announce(written)
    return {stream_id: first for stream_id, (first, _) in allocated.items()}


def announce(written: Sequence[Append]) -> None:
    """Announce records once they are committed."""
    # Not a partial: where a robust hook raises, Django looks for its name, and a partial has none.
    transaction.on_commit(lambda: hints.publish(written), robust=True)


def read(stream_id: UUID, after: int = -1, limit: int = 500) -> list[Entry]:
    """Return up to `limit` entries after a position, in order."""
    return read_batch({stream_id: after}, limit)[stream_id]


def read_batch(cursors: Mapping[UUID, int], limit: int = 500) -> dict[UUID, list[Entry]]:
    """Return up to `limit` entries of each stream after its position; every asked stream has a key."""
    found: dict[UUID, list[Entry]] = {stream_id: [] for stream_id in cursors}
    wanted = list(cursors.items())
    for start in range(0, len(wanted), _STREAMS_PER_SELECT):
        _select(wanted[start : start + _STREAMS_PER_SELECT], limit, found)
    return found


@cache
def _allocating(clock: str, lock: str) -> bulk.Statement:
    return bulk.Statement(
        f", locked AS (SELECT stream.id, wanted.records FROM {_STREAMS} stream JOIN wanted ON wanted.id = stream.id "
        f"WHERE stream.sequencer = '{Sequencer.OWN.value}' AND stream.closed_at IS NULL ORDER BY stream.id{lock}) "
        f"UPDATE {_STREAMS} SET next_seq = next_seq + locked.records FROM locked WHERE {_STREAMS}.id = locked.id "
        f"RETURNING {_STREAMS}.id, next_seq, {clock}",
        [bulk.column(Stream, "id"), bulk.extra("records", "bigint")],
    )


def _encoded(own: Own, first: int, now: datetime) -> Append:
    return Append(own.stream_id, first, [encode(first + offset, now) for offset, encode in enumerate(own.encoders)])


def _allocate(own: Sequence[Own]) -> dict[UUID, tuple[int, datetime]]:
    """Lock the streams in the order of their ids, and give each as many positions as it has records."""
    counts = {item.stream_id: len(item.encoders) for item in own}
    if len(counts) != len(own):
        raise ValueError("a stream is named twice")
    statement = _allocating(dialect.clock(), dialect.row_lock("stream"))
    returned = bulk.execute(statement, sorted(counts.items()))
    found = {dialect.id_out(row[0]): (row[1], dialect.time_out(row[2])) for row in returned}
    missing = [stream_id for stream_id in counts if stream_id not in found]
    if missing:
        raise refusal(missing) or StreamMissing(f"The streams {missing} could not be locked.")
    return {stream_id: (next_seq - counts[stream_id], now) for stream_id, (next_seq, now) in found.items()}


def refusal(missing: Sequence[UUID]) -> StreamClosed | StreamMissing | None:
    """Return why streams allocate no position; None where somebody else is writing to them."""
    known = Stream.objects.in_bulk(missing)
    for stream_id in missing:
        stream = known.get(stream_id)
        if stream is None:
            return StreamMissing(f"There is no stream {stream_id}.")
        if stream.sequencer != Sequencer.OWN:
            return StreamMissing(f"The positions of stream {stream_id} are allocated by its writer.")
        if stream.closed_at is not None:
            return StreamClosed(f"Stream {stream_id} is closed.")
    return None


def _select(
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
        params += [position, dialect.id_in(stream_id), after, limit]
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join([one] * len(wanted)) + " ORDER BY 1, 2", params)
        for position, seq, data in cursor.fetchall():
            stream_id = wanted[position][0]
            found[stream_id].append(Entry(stream_id, seq, bytes(data)))
