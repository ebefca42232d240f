"""What became of a commit whose end nobody saw: the database is asked, by what the commit says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from ..models import Message, Run
from ..streams import log
from .batch import Batch
from .commit import Allocation, Claim, NotClaimed, Request

MOST_RECORDS = 1000
"""How many records of others are looked through that may stand before those of a commit."""


def found_written(requests: Sequence[Request]) -> dict[UUID, Allocation | NotClaimed]:
    """Return which commits were written by a transaction whose end nobody saw.

    The others may be written onto the row as it was read, and onto no other: that transaction may still be under way.
    """
    asked = {request.row.run_id: request for request in requests if request.unknown}
    runs = Run.objects.in_bulk(list(asked)) if asked else {}
    found: dict[UUID, Allocation | NotClaimed] = {}
    for run_id, request in asked.items():
        if (run := runs.get(run_id)) is None:
            continue
        if request.claims and not _is_claimed(request, run):
            request.seen_seq = run.next_seq
        elif request.claims and not _rows(request):
            # By whom, nobody can tell: two workers may share a name, as those of containers do. Its lease runs out.
            found[run_id] = NotClaimed()
        elif (given := _given(request, run)) is not None:
            found[run_id] = given
        else:
            request.seen_seq = run.next_seq
    return found


def _is_claimed(request: Request, run: Run) -> bool:
    claim = request.row
    return isinstance(claim, Claim) and (run.attempt, run.worker) == (claim.attempt, claim.worker)


def _rows(request: Request) -> list[Any]:
    return [*request.commit.messages, *(insert.row for insert in request.commit.inserts)]


def _given(request: Request, run: Run) -> Allocation | None:
    """Return what a commit was given, if its rows and records are stored; one without events says nothing twice."""
    said = Batch.of([request]).records[request.row.run_id]
    rows = _rows(request)
    if rows and not type(rows[0]).objects.filter(pk=rows[0].pk).exists():
        return None
    stored = log.read(request.row.stream_id, request.end.seq - 1, MOST_RECORDS + len(said))
    for start in range(len(stored) - len(said) + 1) if said else ():
        if all(item.text.is_in(entry.data) for entry, item in zip(stored[start:], said, strict=False)):
            _place(request.commit.messages)
            return Allocation(stored[start].seq, run.cancel_requested_at is not None)
    return None


def _place(messages: Sequence[Message]) -> None:
    """Give messages the places that they were stored at."""
    stored = Message.objects.in_bulk([message.pk for message in messages])
    for message in messages:
        message.step_order, message.created_at = stored[message.pk].step_order, stored[message.pk].created_at
