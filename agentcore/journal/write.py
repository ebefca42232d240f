"""Write what entries say, in set-based statements: one for all the runs of a batch, however many there are.

The rows are taken in one order everywhere: runs by id, then the logs of their threads.
A run's messages, steps, calls and approvals are written by whoever holds its row only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any
from uuid import UUID

from django.db import models
from django.db.models import NOT_PROVIDED
from django.db.models.expressions import DatabaseDefault

from ..database import bulk, dialect, rows
from ..models import Approval, Message, Run, Step, ToolCall
from ..states import TERMINAL_RUN_STATUSES
from ..streams import log
from ..streams.log import Append, Own
from ..values import events
from ..values.clock import Later
from . import claim as claims
from . import hold as holds
from .claim import Claim, Take, Want
from .commit import Change, Commit, Insert, Move, Moved, Saved
from .hold import Held, Need
from .row import Allocation, RunRow

_ORDER = (Message, Step, ToolCall, Approval)


@dataclass(frozen=True)
class Written:
    """An entry whose run's row is locked, and the positions it was given.

    With `thread_seq`, it is true only while the thread's log ends there: its worker has read the history.
    """

    row: RunRow
    entry: Commit
    allocation: Allocation
    thread_seq: int | None = None


@dataclass(frozen=True)
class Order:
    """A worker's entry that is still to be written; with `take`, the claim is made by the same statement."""

    claim: Claim
    entry: Commit
    take: Take | None = None
    seen_seq: int | None = None

    @property
    def thread_seq(self) -> int | None:
        """Where the thread's log must still end; see `Take`."""
        return None if self.take is None else self.take.thread_seq

    @property
    def want(self) -> Want:
        """What it needs of its run's row."""
        entry = self.entry
        return Want(self.claim, len(entry.events), len(entry.messages), entry.run, entry.starts, self.seen_seq)


def write(orders: Sequence[Order]) -> dict[UUID, Allocation]:
    """Write the entries of several runs under their claims, in the caller's transaction; one entry a run.

    A run that gets no allocation is left out of the result, and nothing was written for it.
    Raises `Moved` where a row was not as its entry expects, and `StreamBusy`.
    """
    allocated: dict[UUID, Allocation] = {}
    taking = [(order.take, order.want) for order in orders if order.take is not None]
    if taking:
        allocated.update(claims.take(taking))
    proving = [order.want for order in orders if order.take is None]
    if proving:
        allocated.update(claims.fence(proving))
    written = [
        Written(order.claim, order.entry, allocated[order.claim.run_id], order.thread_seq)
        for order in orders
        if order.claim.run_id in allocated
    ]
    _check_and_change(written)
    if _apply(written, skip_locked=True):
        allocated.update(
            (item.row.run_id, replace(item.allocation, last=True)) for item in written if _ends_its_run(item)
        )
    return allocated


@dataclass(frozen=True)
class Reread:
    """Of a batch whose COMMIT broke off: what was written after all, and what is to be written again."""

    written: Mapping[UUID, Allocation]
    left: Sequence[Order]


def reread(orders: Sequence[Order], given: Mapping[UUID, Allocation]) -> Reread:
    """Read from the rows which entries were written, by the positions they were given.

    What is left may be written onto the row as it was read, and onto no other.
    """
    runs = Run.objects.in_bulk(list(given))
    written: dict[UUID, Allocation] = {}
    left: list[Order] = []
    for order in orders:
        allocation, run = given.get(order.claim.run_id), runs.get(order.claim.run_id)
        if allocation is None or run is None:
            left.append(order)
        elif _is_written(order, allocation, run):
            written[order.claim.run_id] = allocation
        else:
            left.append(replace(order, seen_seq=run.next_seq))
    return Reread(written, left)


def _is_written(order: Order, allocation: Allocation, run: Run) -> bool:
    if order.take is not None and (run.attempt, run.worker) != (order.claim.attempt, order.take.worker[:100]):
        return False
    # Of a claim too: two workers may share a name, as containers do, but not the moment at which they claimed.
    payloads = _encode(Written(order.claim, order.entry, allocation))
    # An entry without events says nothing that may not be said twice.
    stored = log.read(order.claim.stream_id, allocation.first_seq - 1, 1) if payloads else []
    return [item.data for item in stored] == payloads[:1] != []


def record(held: Held, entry: Commit) -> Allocation:
    """Record an entry under a held row, in the transaction that holds it."""
    return record_all([(held, entry)])[held.run_id]


def record_all(entries: Sequence[tuple[Held, Commit]]) -> dict[UUID, Allocation]:
    """Record entries under held rows, one a run, with as many statements as for one of them."""
    allocated = holds.allocate(
        [Need(held, len(entry.events), len(entry.messages), _with_due(entry.run)) for held, entry in entries]
    )
    written = [Written(held, entry, allocated[held.run_id]) for held, entry in entries]
    _check_and_change(written)
    _apply(written)
    return allocated


def _with_due(values: Mapping[str, Any]) -> dict[str, Any]:
    columns = dict(values)
    if (seconds := columns.pop("available_in", None)) is not None:
        columns["available_at"] = Later(seconds)
    return columns


def _check_and_change(items: Sequence[Written]) -> None:
    for item in items:
        for check in item.entry.checks:
            if (found := check.rows.count()) != check.count:
                raise Moved(f"{check.rows.model.__name__}: {found} rows, {check.count} expected")
        for change in item.entry.changes:
            _update(change, item.allocation)


def _apply(items: Sequence[Written], *, skip_locked: bool = False) -> bool:
    """Make the moves, insert the rows and store the records, together; raises `Moved`.

    Returns whether runs have ended, and none waits for its turn in any of their threads.
    """
    over = [item for item in items if _ends_its_run(item)]
    # Moves first: a step ends in the transaction in which the next one begins, and one is open at a time.
    moves = _moves([(item, move) for item in items for move in _moves_of_stored(item)])
    inserts = _inserts([row for item in items for row in _new_rows(item)])
    logs = log.prepare(
        [Append(item.row.stream_id, item.allocation.first_seq, _encode(item)) for item in items],
        _thread_logs(items),
        closing=[item.row.stream_id for item in over],
        skip_locked=skip_locked,
    )
    _check_history(items, logs.allocated)
    turn = [bulk.Part(claims.next_in_turn(), [(item.row.thread_id,) for item in over])] if over else []
    counts = bulk.together([*moves, *logs.first, *turn], [*inserts, *logs.then])
    for part in moves:
        if (count := counts.pop(0)) != len(part.rows):
            raise Moved(f"{count} rows moved, {len(part.rows)} expected")
    logs.done(counts[: len(logs.first)])
    return bool(over) and counts[-1] == 0


def _check_history(items: Sequence[Written], ends: Mapping[UUID, int]) -> None:
    """Raise `Moved` where somebody has added to a thread whose history a claim rests on; its log is locked now.

    An entry beside it may be what adds to it: the claim is made after that, or not at all.
    """
    for item in items:
        if item.thread_seq is None:
            continue
        thread = item.row.thread_stream_id
        beside = [other for other in items if other is not item and other.row.thread_stream_id == thread]
        if ends[thread] != item.thread_seq or any(other.entry.messages for other in beside):
            raise Moved("the thread has moved on since its history was read")


def _ends_its_run(item: Written) -> bool:
    return item.entry.run.get("status") in TERMINAL_RUN_STATUSES


def _new_rows(item: Written) -> list[models.Model]:
    """Return the rows to insert, with the places and times that the allocation gives."""
    said: list[models.Model] = []
    for offset, message in enumerate(item.entry.messages):
        message.step_order = item.allocation.first_step_order + offset
        message.created_at = item.allocation.now
        said.append(message)
    return [*said, *(_timed(insert, item.allocation) for insert in item.entry.inserts)]


def _moves_of_stored(item: Written) -> list[Move]:
    """Return the moves of rows that are stored already; a new row is inserted as its moves leave it."""
    new = {insert.row.pk for insert in item.entry.inserts}
    for move in item.entry.moves:
        if move.row.pk in new:
            for name, value in move.values.items():
                setattr(move.row, name, _at(value, item.allocation))
    return [move for move in item.entry.moves if move.row.pk not in new]


def _timed(insert: Insert, allocation: Allocation) -> models.Model:
    for name, moment in insert.times.items():
        setattr(insert.row, name, moment.after(allocation.now))
    for name in _times_of_the_database(type(insert.row)):
        if isinstance(getattr(insert.row, name), DatabaseDefault):
            setattr(insert.row, name, allocation.now)
    return insert.row


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


def _moves(moves: Sequence[tuple[Written, Move]]) -> list[bulk.Part]:
    """Return the statements of the moves; those of one model and the same columns are one."""
    alike: dict[tuple[type[models.Model], tuple[str, ...], str], list[tuple[Any, ...]]] = {}
    if len({move.row.pk for _, move in moves}) != len(moves):
        raise ValueError("an entry moves a stored row twice")
    for item, move in moves:
        values = [_at(value, item.allocation) for value in move.values.values()]
        kind = (type(move.row), tuple(move.values), move.until)
        alike.setdefault(kind, []).append((move.row.pk, move.source.value, *values))
    in_order = sorted(alike.items(), key=lambda pair: _ORDER.index(pair[0][0]))
    clock = dialect.clock()
    return [
        bulk.Part(_moving(model, names, f"{until} > {clock}" if until else ""), rows)
        for (model, names, until), rows in in_order
    ]


@cache
def _moving(model: type[models.Model], names: tuple[str, ...], condition: str) -> bulk.Statement:
    table = model._meta.db_table
    columns = [bulk.column(model, name) for name in names]
    # Named apart from the columns they go to, which the condition reads as they were.
    wanted = [bulk.Column(f"new_{item.name}", item.type, item.field) for item in columns]
    pairs = zip(columns, wanted, strict=True)
    values = ", ".join(f"{column.name} = {new.read('wanted')}" for column, new in pairs)
    return bulk.Statement(
        f"UPDATE {table} SET {values} FROM wanted WHERE {table}.id = wanted.id AND {table}.status = wanted.source "
        f"{f'AND {table}.{condition} ' if condition else ''}RETURNING {table}.id",
        [bulk.column(model, "id"), bulk.extra("source", "text"), *wanted],
    )


def _update(change: Change, allocation: Allocation) -> None:
    count = change.rows.update(**{name: _at(value, allocation) for name, value in change.values.items()})
    if change.expect is not None and count != change.expect:
        raise Moved(f"{change.rows.model.__name__}: {count} rows changed, {change.expect} expected")


def _at(value: Any, allocation: Allocation) -> Any:
    return value.after(allocation.now) if isinstance(value, Later) else value


def _encode(item: Written) -> list[bytes]:
    first, now = item.allocation.first_seq, item.allocation.now
    return [
        (events.Message(event.message.to_event(), event.step) if isinstance(event, Saved) else event).encode(
            first + offset, now
        )
        for offset, event in enumerate(item.entry.events)
    ]


def _thread_logs(items: Sequence[Written]) -> list[Own]:
    """Return what the threads' logs are to say: messages first, then what became of the runs."""
    encoders: dict[UUID, list[log.Encoder]] = {}
    for item in items:
        said = [events.ThreadMessage(message.to_thread_event()) for message in item.entry.messages]
        news = [*said, *item.entry.thread_events]
        if news:
            encoders.setdefault(item.row.thread_stream_id, []).extend(event.encode for event in news)
    return [Own(stream_id, found) for stream_id, found in encoders.items()]
