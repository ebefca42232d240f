"""A batch as rows: what the commits of several runs say, encoded once, for the statements that write it.

What only the database can tell (positions, places and times) is left out: events have holes
for it (see `values.holes`), and in rows a time is a number of seconds after the write, and a
place is counted back from where the run's places end after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS
from django.db.models import DateTimeField, Model
from django.db.models.expressions import DatabaseDefault

from ..models import Approval, Message, Step, ToolCall
from ..values import events, holes
from ..values.clock import Later
from ..values.holes import Holed
from .commit import Commit, Insert, Move, Request, RunRow, Saved

Row = tuple[Any, ...]
ORDER: tuple[type[Model], ...] = (Message, Step, ToolCall, Approval)
"""In which tables rows are written: always in one order, so that there are few statements for the database to plan."""


@dataclass(frozen=True)
class Said:
    """A record to be stored; a message's place in its turn is `back` places before the end of the run's places."""

    text: Holed
    back: int = 0


@dataclass(frozen=True)
class MoveKind:
    """Moves that are one statement: of one table, of the same columns, and under the same conditions."""

    model: type[Model]
    names: tuple[str, ...]
    until: str
    unset: str

    @property
    def rank(self) -> tuple[Any, ...]:
        """Moves are written in the order of their ranks, so that batches of one kind are one statement."""
        return ORDER.index(self.model), self.names, self.until, self.unset


@dataclass(eq=False)
class Batch:
    """The requests of different runs, and their rows."""

    requests: Sequence[Request]
    records: dict[UUID, list[Said]] = field(default_factory=dict)
    """What each run's log is to say."""
    told: dict[UUID, list[Said]] = field(default_factory=dict)
    """What the log of each run's thread is to say: messages first, then what became of the run."""
    moves: dict[MoveKind, list[Row]] = field(default_factory=dict)
    moves_of: dict[UUID, int] = field(default_factory=dict)
    inserts: dict[type[Model], list[Row]] = field(default_factory=dict)

    @classmethod
    def of(cls, requests: Sequence[Request]) -> Batch:
        """Return the rows of requests; raises `ValueError` for a commit that moves a stored row twice."""
        batch = cls(requests)
        for request in requests:
            batch._add(request.row.run_id, request.commit)
        return batch

    @property
    def in_order(self) -> list[MoveKind]:
        """The kinds of moves in the order in which they are written."""
        return sorted(self.moves, key=lambda kind: kind.rank)

    @property
    def models(self) -> list[type[Model]]:
        """The models of new rows in the order in which they are written."""
        return sorted(self.inserts, key=ORDER.index)

    def logs(self, row: RunRow) -> list[tuple[UUID, list[Said]]]:
        """Return what a run's log and that of its thread are to say."""
        return [(row.stream_id, self.records[row.run_id]), (row.thread_stream_id, self.told[row.run_id])]

    @property
    def ends(self) -> bool:
        """Whether a run is over once this is written."""
        return any(request.ends_its_run for request in self.requests)

    def record_rows(self) -> list[Row]:
        """Return the rows of `parts.recording`."""
        return [
            (
                row.run_id,
                stream_id,
                stream_id == row.thread_stream_id,
                len(said) - number,
                len(said),
                item.back,
                item.text.later,
                item.text.text,
            )
            for row in (request.row for request in self.requests)
            for stream_id, said in self.logs(row)
            for number, item in enumerate(said)
        ]

    def _add(self, run_id: UUID, commit: Commit) -> None:
        messages = commit.messages
        backs = {message.pk: len(messages) - number for number, message in enumerate(messages)}
        self.records[run_id] = [_said(event, backs) for event in commit.events]
        self.told[run_id] = [
            *(Said(_tells(message).holed(), backs[message.pk]) for message in messages),
            *(Said(event.holed()) for event in commit.thread_events),
        ]
        new = {insert.row.pk: insert for insert in commit.inserts}
        stored = [move for move in commit.moves if move.row.pk not in new]
        if len({move.row.pk for move in stored}) != len(stored):
            raise ValueError("a commit moves a stored row twice")
        self.moves_of[run_id] = len(stored)
        for move in stored:
            kind = MoveKind(type(move.row), tuple(move.values), move.until, move.unset)
            values = (seconds(value) for value in move.values.values())
            self.moves.setdefault(kind, []).append((run_id, move.row.pk, move.source.value, *values))
        for message in messages:
            self._insert(run_id, message, {"created_at": Later(0), "step_order": backs[message.pk]})
        for insert in commit.inserts:
            self._insert(run_id, insert.row, _as_moved(insert, commit.moves))

    def _insert(self, run_id: UUID, row: Model, otherwise: dict[str, Any]) -> None:
        model = type(row)
        row._state.adding, row._state.db = False, DEFAULT_DB_ALIAS
        if unknown := otherwise.keys() - columns(model):
            raise ValueError(f"a new row's commit names its columns, and not {', '.join(sorted(unknown))}")
        values = (seconds(otherwise.get(name, getattr(row, name))) for name in columns(model))
        self.inserts.setdefault(model, []).append((run_id, *values))


@cache
def columns(model: type[Model]) -> tuple[str, ...]:
    """Return the attributes of a model's columns."""
    return tuple(field.attname for field in model._meta.concrete_fields)


@cache
def times(model: type[Model]) -> frozenset[str]:
    """Return the columns of a model that are times, and travel as seconds after the write."""
    return frozenset(field.name for field in model._meta.concrete_fields if isinstance(field, DateTimeField))


def seconds(value: Any) -> Any:
    """Return a time after the write as a number of seconds; other values are what they are."""
    if isinstance(value, Later):
        return value.seconds
    if isinstance(value, datetime):
        raise TypeError(f"a commit tells a time as `Later`, by the database's clock, and not as {value}")
    return 0.0 if isinstance(value, DatabaseDefault) else value


def _as_moved(insert: Insert, moves: Iterable[Move]) -> dict[str, Any]:
    """Return what a new row has otherwise than its object: its times, and what its moves leave."""
    found: dict[str, Any] = dict(insert.times)
    for move in moves:
        if move.row.pk == insert.row.pk:
            found |= move.values
    return found


def _said(event: events.Event | Saved, backs: dict[UUID, int]) -> Said:
    if not isinstance(event, Saved):
        return Said(event.holed())
    message = {**event.message.to_event(), "step_order": holes.PLACE}
    return Said(events.Message(message, event.step).holed(), backs[event.message.pk])


def _tells(message: Message) -> events.ThreadMessage:
    return events.ThreadMessage({**message.to_thread_event(), "step_order": holes.PLACE})
