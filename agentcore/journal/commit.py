"""What one transaction says about one run, as a declaration: its events, and the rows they imply.

One log, one writer: messages, tool calls, approvals, usage and output are
projections, written in the transaction of the events that caused them. Nothing
here touches the database: `fence` says whether a commit may be written, `write` does it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from django.db import models

from ..models import Message, Run
from ..states import TERMINAL_RUN_STATUSES, RunStatus, check_move
from ..values import events
from ..values.clock import Later
from ..values.events import Event


@dataclass(frozen=True)
class RunRow:
    """Where a run is written to: its own log, and its thread's."""

    run_id: UUID
    thread_id: UUID
    stream_id: UUID
    thread_stream_id: UUID
    number: int
    agent: str

    def changed(self, status: RunStatus) -> events.ThreadRun:
        """Return the thread event that says what became of this run."""
        return events.ThreadRun(str(self.run_id), status.value, self.number, self.agent)


@dataclass(frozen=True)
class Claim(RunRow):
    """A worker's right to write to a run, as long as `attempt` is the run's attempt.

    It can only be made while the run's log ends before `seen_seq`, where it did when the run was
    read; with `thread_seq`, the thread's log too, whose history the worker has read.
    """

    attempt: int
    worker: str = ""
    alone: bool = False
    seen_seq: int = 0
    thread_seq: int | None = None

    @classmethod
    def of(cls, run: Run, worker: str, *, alone: bool, thread_seq: int | None = None) -> Claim:
        """Return the claim that the next attempt at a run would be."""
        return cls(
            run.pk,
            run.thread_id,
            run.stream_id,
            run.thread.stream_id,
            run.number,
            run.agent,
            attempt=run.attempt + 1,
            worker=worker[:100],
            alone=alone,
            seen_seq=run.next_seq,
            thread_seq=thread_seq,
        )


@dataclass(frozen=True)
class Held(RunRow):
    """A run's row, locked until the end of the surrounding transaction by somebody who is not its worker."""

    status: RunStatus
    attempt: int
    now: datetime


@dataclass(frozen=True)
class Allocation:
    """What the fenced UPDATE of the row gave: the first position in the run's log, and whether a cancel waits.

    `last` says that the commit has ended the run, and that no other waits for its turn in the thread.
    """

    first_seq: int
    cancel_requested: bool
    last: bool = False


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
class Move:
    """One row's way out of a status, or a change within it; a `Later` among the values is the database's time.

    A row that is not in the status `source` any more rolls the whole commit back, and so does one whose
    column `until` is no time to come by the database's clock, or whose column `unset` is not NULL any more.
    Raises `IllegalMove` where the tables of `states` have no such way. The row in memory is changed by
    `apply`, and not by the commit itself, which may be refused, or be written once more after a rollback.
    """

    row: models.Model
    source: StrEnum
    values: Mapping[str, Any]
    until: str = ""
    unset: str = ""

    def __post_init__(self) -> None:
        check_move(self.source, self.values["status"])

    def apply(self) -> None:
        """Set the row's attributes to what is stored; times, which only the database can tell, are left alone."""
        for name, value in self.values.items():
            if not isinstance(value, Later):
                setattr(self.row, name, value)


@dataclass(frozen=True)
class Commit:
    """What one transaction says about one run; the order of `events` is the order of the log.

    `run` holds columns of the run (see `fence.SETS`). Its lease, its end and when it is due follow
    from the status it is given and are not named; `available_in` (seconds) delays a pending one,
    `cancels` and `poisons` set the times of a cancel and of the last lost lease. With `starts`, a
    waiting cancel refuses the commit.
    """

    events: Sequence[Event | Saved] = ()
    run: Mapping[str, Any] = field(default_factory=dict)
    inserts: Sequence[Insert] = ()
    moves: Sequence[Move] = ()
    starts: bool = False
    thread_events: Sequence[Event] = ()

    @property
    def messages(self) -> list[Message]:
        """The messages it saves, in order."""
        return [event.message for event in self.events if isinstance(event, Saved)]

    def and_then(self, *others: Commit) -> Commit:
        """Return all of them as one commit, in this order."""
        return combined((self, *others))


def combined(commits: Iterable[Commit]) -> Commit:
    """Return one commit that says what all of them say, one after the other."""
    parts = list(commits)
    if len(parts) == 1:
        return parts[0]
    events: list[Event | Saved] = []
    run: dict[str, Any] = {}
    inserts: list[Insert] = []
    moves: list[Move] = []
    thread_events: list[Event] = []
    for part in parts:
        events += part.events
        run.update(part.run)
        inserts += part.inserts
        moves += part.moves
        thread_events += part.thread_events
    return Commit(events, run, inserts, moves, any(part.starts for part in parts), thread_events)


@dataclass(eq=False)
class LogEnd:
    """Where a run's log ended after the last commit of its worker, as far as that one knows."""

    seq: int = 0


@dataclass(eq=False)
class Request:
    """A commit to write for a run; the run's worker writes it under a claim, anybody else under the held row.

    With `claims`, the same statement also makes the claim. `unknown` says that the connection was lost
    while the commit was written: if it was written, its records stand at `end` or later. With
    `seen_seq`, the commit is written only if the run's log still ends there.
    """

    row: Claim | Held
    commit: Commit
    claims: bool = False
    end: LogEnd = field(default_factory=LogEnd)
    unknown: bool = False
    seen_seq: int | None = None

    @property
    def rests_on_history(self) -> bool:
        """Whether it is refused once somebody has added to the run's thread."""
        return self.claims and isinstance(self.row, Claim) and self.row.thread_seq is not None

    @property
    def ends_its_run(self) -> bool:
        """Whether the run is over once this is written."""
        return self.commit.run.get("status") in TERMINAL_RUN_STATUSES


class RowHeld(Exception):
    """Somebody holds a row that this commit needs; it is written in a later batch."""


class Moved(Exception):
    """A row is not in the state this commit starts from; nothing was written."""


class NotClaimed(Exception):
    """The run is not as it was read, or nobody may claim it now; nothing was written."""
