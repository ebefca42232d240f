"""A run's row: where the run is written to, and what an UPDATE of its row gives.

Every transaction on a run starts with one UPDATE of its row, by its worker (see
`claim`) or by somebody else (see `hold`). That statement is lock, status check and
allocator of `seq` in one, the same on PostgreSQL and SQLite (which has no
SELECT … FOR UPDATE).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from ..database import dialect
from ..states import RunStatus
from ..values import events


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
class Allocation:
    """What an UPDATE of the row gave: positions, the database's time, and whether a cancel waits.

    `last` says that the entry has ended the run, and that no other waits for its turn in the thread.
    """

    first_seq: int
    first_step_order: int
    now: datetime
    cancel_requested: bool
    last: bool = False


def seconds_until_lapse() -> str:
    """Return the expression for the seconds a run has been running, to now or to where its lease ran out before."""
    return dialect.seconds_since("running_since", "lease_expires_at")
