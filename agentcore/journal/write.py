"""Write a batch: one statement on PostgreSQL; on SQLite the fence, and then what follows from it, of the same rows.

The rows are taken in one order everywhere: runs by id, then the logs of their threads.
A run's messages, steps, calls and approvals are written by whoever holds its row only.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.db import connection, transaction

from ..exceptions import CancelRequested, LeaseLost
from ..states import RunStatus
from ..streams import hints, log
from . import postgres, sqlite
from .batch import Batch
from .commit import Allocation, Claim, Commit, Held, NotClaimed, Request, RowHeld
from .found import Found, written

Answer = Allocation | BaseException
"""What a request was given, or why it was not written."""


def write(requests: Sequence[Request]) -> dict[UUID, Answer]:
    """Write the commits of several runs, one a run, and say how each has gone.

    On PostgreSQL it is a transaction, or part of the one that is open; on SQLite one must be open. Raises
    `Moved` where a row was not as its commit expects: which commit's is not known, and none is written.
    """
    batch = Batch.of(requests)
    # Whoever holds rows may wait for a thread's log; a worker's batch waits for nobody.
    waits = all(isinstance(request.row, Held) for request in requests)
    on_postgres = connection.vendor == "postgresql"
    found = postgres.execute(batch, waits_for_threads=waits) if on_postgres else sqlite.execute(batch)
    if any(it.next_seq is not None for it in found.values()):
        # Not a partial: where a robust hook raises, Django looks for its name, and a partial has none.
        transaction.on_commit(lambda: hints.publish(written(batch, found)), robust=True)
    return {request.row.run_id: _answer(request, found[request.row.run_id]) for request in requests}


def record(held: Held, commit: Commit) -> Allocation:
    """Write a commit under a held row, in the transaction that holds it."""
    return record_all([(held, commit)])[held.run_id]


def record_all(commits: Sequence[tuple[Held, Commit]]) -> dict[UUID, Allocation]:
    """Write commits under held rows, one a run, with as many statements as for one of them."""
    given: dict[UUID, Allocation] = {}
    for run_id, answer in write([Request(held, commit) for held, commit in commits]).items():
        if isinstance(answer, BaseException):
            raise answer
        given[run_id] = answer
    return given


def _answer(request: Request, found: Found) -> Answer:
    """Return what a request was given, or why the rows that its statement has locked did not let it through."""
    claim, commit = request.row, request.commit
    if found.next_seq is not None and found.now is not None:
        return _given(commit, found, found.next_seq, found.now)
    if not found.free:
        return RowHeld()
    if not found.thread_free:
        return log.refusal(claim.thread_stream_id) or RowHeld()
    if request.claims:
        return NotClaimed()
    if not isinstance(claim, Claim) or (found.status, found.attempt) != (RunStatus.RUNNING, claim.attempt):
        return LeaseLost()
    if commit.starts and found.cancel_requested:
        return CancelRequested()
    return RowHeld()  # what nobody saw the end of has been written meanwhile, or somebody else has: look again


def _given(commit: Commit, found: Found, next_seq: int, now: datetime) -> Allocation:
    messages = commit.messages
    for place, message in enumerate(messages, found.next_step_order - len(messages)):
        message.step_order, message.created_at = place, now
    return Allocation(next_seq - len(commit.events), found.cancel_requested, found.last)
