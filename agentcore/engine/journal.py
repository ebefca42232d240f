"""The journal: a run's events, committed together with the rows they imply.

One log, one writer: messages, tool calls, approvals, usage and output are
projections, written in the transaction of the events that caused them. A
`Commit` says all of it declaratively; a worker commits it under its claim, a
service records it under a held row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from uuid import UUID

from django.db import models, transaction
from django.db.models import QuerySet

from .. import events
from ..clock import Later
from ..events import Event
from ..models import Message
from ..states import TERMINAL_RUN_STATUSES, RunStatus, check_move
from ..streams import log
from . import claim as claims
from . import sql
from .claim import Allocation, Claim, Held, RunRow


@dataclass(frozen=True)
class Saved:
    """Stands, among a commit's events, for a message that the same commit saves."""

    message: Message
    step: int | None = None


@dataclass(frozen=True)
class Insert:
    """A new row; `times` are columns that take the database's time, or one after it."""

    row: models.Model
    times: Mapping[str, Later] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """An UPDATE of rows other than the run; a `Later` among the values is a time by the database's clock.

    A count other than `expect` rolls the whole commit back.
    """

    rows: QuerySet[Any]
    values: Mapping[str, Any]
    expect: int | None = None


@dataclass(frozen=True)
class Move:
    """One row's way out of a status; rows that move alike are changed by one statement.

    A row that is not in the status `source` any more rolls the whole commit back.
    Raises `IllegalMove` where the tables of `states` have no such way.
    """

    row: models.Model
    source: StrEnum
    values: Mapping[str, Any]

    def __post_init__(self) -> None:
        check_move(self.source, self.values["status"])


@dataclass(frozen=True)
class Check:
    """How many rows must still be there when the run's row is locked; another count rolls the commit back."""

    rows: QuerySet[Any]
    count: int


@dataclass(frozen=True)
class Commit:
    """What one transaction says about one run; the order of `events` is the order of the log."""

    events: Sequence[Event | Saved] = ()
    run: Mapping[str, Any] = field(default_factory=dict)
    inserts: Sequence[Insert] = ()
    changes: Sequence[Change] = ()
    moves: Sequence[Move] = ()
    checks: Sequence[Check] = ()
    starts: bool = False
    thread_events: Sequence[Event] = ()

    def and_then(self, other: Commit) -> Commit:
        """Return both as one commit."""
        return Commit(
            events=[*self.events, *other.events],
            run={**self.run, **other.run},
            inserts=[*self.inserts, *other.inserts],
            changes=[*self.changes, *other.changes],
            moves=[*self.moves, *other.moves],
            checks=[*self.checks, *other.checks],
            starts=self.starts or other.starts,
            thread_events=[*self.thread_events, *other.thread_events],
        )


class Moved(Exception):
    """A row is not in the state this commit starts from; nothing was written."""


def claim(run_id: UUID, worker: str, settle: Callable[[Claim], Commit]) -> Claim | None:
    """Claim a run and log it; `settle` says, in the same transaction, what becomes of a dead attempt's leftovers."""
    with transaction.atomic(using=sql.alias(), durable=True):
        taken = claims.take(run_id, worker)
        if taken is None:
            return None
        started = Commit(events=[events.RunStarted(taken.attempt)], thread_events=[taken.changed(RunStatus.RUNNING)])
        _write(taken, started.and_then(settle(taken)))
    return taken


def commit(claim: Claim, entry: Commit) -> Allocation:
    """Commit an entry under a worker's claim.

    Raises `LeaseLost` or `CancelRequested` (see `claim.fence`), and `Moved` where a
    row was not as the entry expects; nothing is written then.
    """
    # Durable: inside somebody's transaction "committed before the body runs" would be untrue.
    with transaction.atomic(using=sql.alias(), durable=True):
        return _write(claim, entry)


def record(held: Held, entry: Commit) -> Allocation:
    """Record an entry under a held row, in the transaction that holds it."""
    messages = _messages(entry)
    allocation = claims.allocate(held, records=len(entry.events), messages=len(messages), values=entry.run)
    _apply(held, allocation, entry)
    return allocation


def _write(claim: Claim, entry: Commit) -> Allocation:
    allocation = claims.fence(
        claim,
        records=len(entry.events),
        messages=len(_messages(entry)),
        values=entry.run,
        starts=entry.starts,
    )
    _apply(claim, allocation, entry)
    return allocation


def _messages(entry: Commit) -> list[Message]:
    return [event.message for event in entry.events if isinstance(event, Saved)]


def _apply(row: RunRow, allocation: Allocation, entry: Commit) -> None:
    """Write the rows of an entry in the lock order: messages, other rows, the run's log, the thread's log."""
    for check in entry.checks:
        if (found := check.rows.count()) != check.count:
            raise Moved(f"{check.rows.model.__name__}: {found} rows, {check.count} expected")
    messages = _messages(entry)
    for offset, message in enumerate(messages):
        message.step_order = allocation.first_step_order + offset
        message.created_at = allocation.now
    if messages:
        Message.objects.bulk_create(messages)
    _insert(entry.inserts, allocation)
    for change in [*entry.changes, *_together(entry.moves)]:
        _update(change, allocation)
    log.write(row.stream_id, allocation.first_seq, _encode(entry, allocation))
    if entry.run.get("status") in TERMINAL_RUN_STATUSES:
        log.close(row.stream_id)
    if entry.thread_events or messages:
        said = [events.ThreadMessage(message.to_event()) for message in messages]
        log.append(row.thread_stream_id, [event.encode for event in [*said, *entry.thread_events]])


def _insert(inserts: Sequence[Insert], allocation: Allocation) -> None:
    by_model: dict[type[models.Model], list[models.Model]] = {}
    for insert in inserts:
        for name, moment in insert.times.items():
            setattr(insert.row, name, moment.after(allocation.now))
        by_model.setdefault(type(insert.row), []).append(insert.row)
    for model, items in by_model.items():
        model._default_manager.bulk_create(items)


def _together(moves: Sequence[Move]) -> list[Change]:
    """Return the moves as updates, one for all that are alike."""
    alike: dict[tuple[Any, ...], list[Move]] = {}
    for move in moves:
        alike.setdefault((type(move.row), move.source, *sorted(move.values.items())), []).append(move)
    return [_all_at_once(same) for same in alike.values()]


def _all_at_once(alike: Sequence[Move]) -> Change:
    first = alike[0]
    rows = type(first.row)._default_manager.filter(pk__in=[move.row.pk for move in alike], status=first.source.value)
    return Change(rows, first.values, expect=len(alike))


def _update(change: Change, allocation: Allocation) -> None:
    values = {
        name: value.after(allocation.now) if isinstance(value, Later) else value
        for name, value in change.values.items()
    }
    count = change.rows.update(**values)
    if change.expect is not None and count != change.expect:
        raise Moved(f"{change.rows.model.__name__}: {count} rows changed, {change.expect} expected")


def _encode(entry: Commit, allocation: Allocation) -> list[bytes]:
    plain = [
        events.Message(event.message.to_event(), event.step) if isinstance(event, Saved) else event
        for event in entry.events
    ]
    return [event.encode(allocation.first_seq + offset, allocation.now) for offset, event in enumerate(plain)]
