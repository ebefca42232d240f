"""Write what commits say, in set-based statements: one for all the runs of a batch, however many there are.

The rows are taken in one order everywhere: runs by id, then the logs of their threads.
A run's messages, steps, calls and approvals are written by whoever holds its row only.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any
from uuid import UUID

from django.db import models
from django.db.models import NOT_PROVIDED
from django.db.models.expressions import DatabaseDefault

from ..database import bulk, dialect, rows
from ..exceptions import LeaseLost
from ..models import Approval, Message, Run, Step, ToolCall
from ..states import RunStatus
from ..streams import log
from ..streams.log import Append, Own
from ..values import events
from ..values.clock import Later
from .commit import Allocation, Claim, Commit, Held, Insert, Move, Moved, Request, Saved
from .fence import fence

_ORDER = (Message, Step, ToolCall, Approval)
Written = tuple[Request, Allocation]
"""A request whose run's row is locked, and what it was given."""


def write(requests: Sequence[Request]) -> dict[UUID, Allocation]:
    """Write the commits of several runs, one a run, in the caller's transaction.

    A run that gets no allocation is left out of the result, and nothing was written for it.
    Raises `Moved` where a row was not as its commit expects, and `StreamBusy`.
    """
    allocated = fence(requests)
    written = [(request, allocated[request.row.run_id]) for request in requests if request.row.run_id in allocated]
    for request, _ in written:
        _check(request.commit)
    # Whoever holds rows may wait for a thread's log; a worker's batch waits for nobody.
    waits = all(isinstance(request.row, Held) for request in requests)
    if _apply(written, skip_locked=not waits):
        ended = [request.row.run_id for request, _ in written if request.ends_its_run]
        allocated.update((run_id, replace(allocated[run_id], last=True)) for run_id in ended)
    return allocated


def record(held: Held, commit: Commit) -> Allocation:
    """Write a commit under a held row, in the transaction that holds it."""
    return record_all([(held, commit)])[held.run_id]


def record_all(commits: Sequence[tuple[Held, Commit]]) -> dict[UUID, Allocation]:
    """Write commits under held rows, one a run, with as many statements as for one of them."""
    allocated = write([Request(held, commit) for held, commit in commits])
    if len(allocated) < len(commits):
        raise LeaseLost
    return allocated


def found_written(requests: Sequence[Request]) -> dict[UUID, Allocation]:
    """Return which commits were written by a transaction whose COMMIT broke off, by the positions they were given.

    The others may be written onto the row as it was read, and onto no other: that COMMIT may still be on its way.
    """
    unknown = {request.row.run_id: request for request in requests if request.given is not None}
    runs = Run.objects.in_bulk(list(unknown)) if unknown else {}
    written = {}
    for run_id, request in unknown.items():
        run = runs.get(run_id)
        if run is None or request.given is None:
            continue
        if _is_written(request, request.given, run):
            written[run_id] = request.given
        else:
            request.seen_seq = run.next_seq
    return written


def _is_written(request: Request, allocation: Allocation, run: Run) -> bool:
    claim = request.row
    if request.claims and isinstance(claim, Claim) and (run.attempt, run.worker) != (claim.attempt, claim.worker):
        return False
    # Of a claim too: two workers may share a name, as containers do, but not the moment at which they claimed.
    payloads = _encode(request, allocation)
    # A commit without events says nothing that may not be said twice.
    stored = log.read(request.row.stream_id, allocation.first_seq - 1, 1) if payloads else []
    return [item.data for item in stored] == payloads[:1] != []


def _check(commit: Commit) -> None:
    for check in commit.checks:
        if (found := check.rows.count()) != check.count:
            raise Moved(f"{check.rows.model.__name__}: {found} rows, {check.count} expected")


def _apply(written: Sequence[Written], *, skip_locked: bool) -> bool:
    """Make the moves, insert the rows and store the records, together; raises `Moved`.

    Returns whether runs have ended, and none waits for its turn in any of their threads.
    """
    over = [request for request, _ in written if request.ends_its_run]
    # Moves first: a step ends in the transaction in which the next one begins, and one is open at a time.
    moves = _moves([(move, allocation) for request, allocation in written for move in _moves_of_stored(request.commit)])
    inserts = _inserts([row for request, allocation in written for row in _new_rows(request.commit, allocation)])
    logs = log.prepare(
        [
            Append(request.row.stream_id, allocation.first_seq, _encode(request, allocation))
            for request, allocation in written
        ],
        _thread_logs(written),
        closing=[request.row.stream_id for request in over],
        skip_locked=skip_locked,
    )
    _check_history([request for request, _ in written], logs.allocated)
    turn = [bulk.Part(_next_in_turn(), [(request.row.thread_id,) for request in over])] if over else []
    counts = bulk.together([*moves, *logs.first, *turn], [*inserts, *logs.then])
    for part in moves:
        if (count := counts.pop(0)) != len(part.rows):
            raise Moved(f"{count} rows moved, {len(part.rows)} expected")
    logs.done(counts[: len(logs.first)])
    return bool(over) and counts[-1] == 0


@cache
def _next_in_turn() -> bulk.Statement:
    """Return the statement that finds, for threads, the runs that wait for their turn.

    Whoever holds the threads' logs misses none: a run that is sent later has a hint of its own.
    """
    return bulk.Statement(
        "SELECT run.id FROM agentcore_run run JOIN wanted ON wanted.thread_id = run.thread_id "
        f"WHERE run.queued AND run.status = '{RunStatus.PENDING.value}'",
        [bulk.column(Run, "thread")],
    )


def _check_history(requests: Sequence[Request], ends: Mapping[UUID, int]) -> None:
    """Raise `Moved` where somebody has added to a thread whose history a claim rests on; its log is locked now.

    A commit beside it may be what adds to it: the claim is made after that, or not at all.
    """
    for request in requests:
        claim, thread = request.row, request.row.thread_stream_id
        if not request.claims or not isinstance(claim, Claim) or claim.thread_seq is None:
            continue
        beside = [other for other in requests if other is not request and other.row.thread_stream_id == thread]
        if ends[thread] != claim.thread_seq or any(other.commit.messages for other in beside):
            raise Moved("the thread has moved on since its history was read")


def _new_rows(commit: Commit, allocation: Allocation) -> list[models.Model]:
    """Return the rows to insert, with the places and times that the allocation gives."""
    said: list[models.Model] = []
    for offset, message in enumerate(commit.messages):
        message.step_order = allocation.first_step_order + offset
        message.created_at = allocation.now
        said.append(message)
    return [*said, *(_new_row(insert, commit.moves, allocation) for insert in commit.inserts)]


def _new_row(insert: Insert, moves: Sequence[Move], allocation: Allocation) -> models.Model:
    """Return a copy of a new row, with its times, and as its moves leave it."""
    row = copy.copy(insert.row)  # where this commit is refused, another may insert the row without its moves
    for name in _times_of_the_database(type(row)):
        if isinstance(getattr(row, name), DatabaseDefault):
            setattr(row, name, allocation.now)
    for values in (insert.times, *(move.values for move in moves if move.row.pk == row.pk)):
        for name, value in values.items():
            setattr(row, name, _at(value, allocation))
    return row


def _moves_of_stored(commit: Commit) -> list[Move]:
    """Return the moves of rows that are stored already; a new row is inserted as its moves leave it."""
    new = {insert.row.pk for insert in commit.inserts}
    return [move for move in commit.moves if move.row.pk not in new]


@cache
def _times_of_the_database(model: type[models.Model]) -> tuple[str, ...]:
    """Return the columns whose default is the database's time, the only default of the database's there is."""
    return tuple(field.attname for field in model._meta.concrete_fields if field.db_default is not NOT_PROVIDED)


def _inserts(new: Iterable[models.Model]) -> list[bulk.Part]:
    by_model: dict[type[models.Model], list[models.Model]] = {}
    for row in new:
        by_model.setdefault(type(row), []).append(row)
    # Always in one order, so that there are few statements for the database to plan.
    return [rows.inserting(by_model[model]) for model in sorted(by_model, key=_ORDER.index)]


def _moves(moves: Sequence[tuple[Move, Allocation]]) -> list[bulk.Part]:
    """Return the statements of the moves; those of one model and the same columns are one."""
    alike: dict[tuple[type[models.Model], tuple[str, ...], str, str], list[tuple[Any, ...]]] = {}
    if len({move.row.pk for move, _ in moves}) != len(moves):
        raise ValueError("a commit moves a stored row twice")
    for move, allocation in moves:
        values = [_at(value, allocation) for value in move.values.values()]
        kind = (type(move.row), tuple(move.values), move.until, move.unset)
        alike.setdefault(kind, []).append((move.row.pk, move.source.value, *values))
    in_order = sorted(alike.items(), key=lambda pair: _ORDER.index(pair[0][0]))
    clock = dialect.clock()
    return [
        bulk.Part(_moving(model, names, until and f"{until} > {clock}", unset and f"{unset} IS NULL"), rows)
        for (model, names, until, unset), rows in in_order
    ]


@cache
def _moving(model: type[models.Model], names: tuple[str, ...], *conditions: str) -> bulk.Statement:
    table = model._meta.db_table
    columns = [bulk.column(model, name) for name in names]
    # Named apart from the columns they go to, which the condition reads as they were.
    wanted = [bulk.Column(f"new_{item.name}", item.type, item.field) for item in columns]
    pairs = zip(columns, wanted, strict=True)
    values = ", ".join(f"{column.name} = {new.read('wanted')}" for column, new in pairs)
    only = "".join(f"AND {table}.{condition} " for condition in conditions if condition)
    return bulk.Statement(
        f"UPDATE {table} SET {values} FROM wanted WHERE {table}.id = wanted.id AND {table}.status = wanted.source "
        f"{only}RETURNING {table}.id",
        [bulk.column(model, "id"), bulk.extra("source", "text"), *wanted],
    )


def _at(value: Any, allocation: Allocation) -> Any:
    return value.after(allocation.now) if isinstance(value, Later) else value


def _encode(request: Request, allocation: Allocation) -> list[bytes]:
    return [
        (events.Message(event.message.to_event(), event.step) if isinstance(event, Saved) else event).encode(
            allocation.first_seq + offset, allocation.now
        )
        for offset, event in enumerate(request.commit.events)
    ]


def _thread_logs(written: Sequence[Written]) -> list[Own]:
    """Return what the threads' logs are to say: messages first, then what became of the runs."""
    encoders: dict[UUID, list[log.Encoder]] = {}
    for request, _ in written:
        said = [events.ThreadMessage(message.to_thread_event()) for message in request.commit.messages]
        news = [*said, *request.commit.thread_events]
        if news:
            encoders.setdefault(request.row.thread_stream_id, []).extend(event.encode for event in news)
    return [Own(stream_id, found) for stream_id, found in encoders.items()]
