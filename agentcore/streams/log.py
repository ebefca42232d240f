"""Write and read streams: the only place that touches their rows.

A record's position is allocated under a row lock held until the commit, so positions become visible in
order and without gaps, and a reader that asks for "everything after n" can never miss one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F

from ..database import dialect
from . import hints
from .exceptions import StreamClosed, StreamMissing
from .models import Record, Sequencer, Stream

__all__ = [
    "Append",
    "Encoder",
    "Entry",
    "announce",
    "append",
    "create",
    "read",
    "read_batch",
    "refusal",
    "write",
]

Encoder = Callable[[int, datetime], bytes]
"""Given a position and the database's time, return the bytes to store."""

_RECORDS = Record._meta.db_table
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
    return Stream.objects.create(name=name, sequencer=sequencer, content_type=content_type)


def append(stream_id: UUID, encoders: Sequence[Encoder]) -> int:
    """Allocate positions in the stream's own row, store what the encoders make, return the first position.

    Joins an open transaction, else opens one.
    """
    with transaction.atomic():
        open_ = Stream.objects.filter(pk=stream_id, sequencer=Sequencer.OWN, closed_at=None)
        if not open_.update(next_seq=F("next_seq") + len(encoders)):
            raise refusal(stream_id) or StreamMissing(f"The stream {stream_id} could not be locked.")
        end, now = Stream.objects.values_list("next_seq", dialect.DbNow()).get(pk=stream_id)
        first: int = end - len(encoders)
        write(stream_id, first, [encode(first + offset, now) for offset, encode in enumerate(encoders)])
    return first


def write(stream_id: UUID, first_seq: int, payloads: Sequence[bytes]) -> None:
    """Store payloads at positions that the caller has allocated, in the caller's transaction, and announce them.

    The caller holds the row that allocates; the log only guards uniqueness.
    """
    if not connection.in_atomic_block:
        raise transaction.TransactionManagementError("the log needs the transaction that allocates the positions")
    if payloads:
        Record.objects.bulk_create(
            Record(stream_id=stream_id, seq=seq, append_seq=first_seq, data=payload, created_at=dialect.DbNow())
            for seq, payload in enumerate(payloads, first_seq)
        )
        announce([Append(stream_id, first_seq, payloads)])


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


def refusal(stream_id: UUID) -> StreamClosed | StreamMissing | None:
    """Return why a stream allocates no position; None where somebody else is writing to it."""
    stream = Stream.objects.filter(pk=stream_id).first()
    if stream is None:
        return StreamMissing(f"There is no stream {stream_id}.")
    if stream.sequencer != Sequencer.OWN:
        return StreamMissing(f"The positions of stream {stream_id} are allocated by its writer.")
    return None if stream.closed_at is None else StreamClosed(f"Stream {stream_id} is closed.")


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
