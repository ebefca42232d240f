"""What the database says of a batch: how the rows stood, what was given, and so what was stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from ..streams.log import Append
from .batch import Batch


@dataclass(frozen=True)
class Found:
    """How a request's rows stood when they were locked and, where the fence has let it through, what it was given.

    The fields are the columns of `postgres.STATEMENT` after the run's id, in their order. `last` says that the
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
