"""Reading a run's log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from .. import events
from ..models import Run
from ..streams import log
from . import runs
from .twins import twin

MOST = 1000


@dataclass(frozen=True)
class EventPage:
    """Events in order; read on with `after=next_after`, until `done`: the run has ended and its log holds no more."""

    events: list[dict[str, Any]]
    next_after: int
    done: bool


def read(run: Run | UUID | str, *, user: Any, after: int = -1, limit: int = 500) -> EventPage:
    """Return a page of a run's log after a position; `after=-1` reads from the beginning."""
    found = runs.get(run.pk if isinstance(run, Run) else run, user=user)
    return _page(found, log.read(found.stream_id, after, max(1, min(limit, MOST))), after)


def read_batch(cursors: Mapping[UUID | str, int], *, user: Any, limit: int = 500) -> dict[UUID, EventPage]:
    """Return a page of several runs' logs, each after its own position."""
    found = {key: runs.get(key, user=user) for key in cursors}
    streams = {run.stream_id: cursors[key] for key, run in found.items()}
    pages = log.read_batch(streams, max(1, min(limit, MOST)))
    return {run.pk: _page(run, pages[run.stream_id], cursors[key]) for key, run in found.items()}


def _page(run: Run, entries: list[log.Entry], after: int) -> EventPage:
    """Return the page; the run was read before the entries, so an ended one has none beyond an empty page."""
    decoded = [events.decode(entry.data) for entry in entries]
    last = entries[-1].seq if entries else after
    done = decoded[-1]["type"] == events.Done.type if decoded else run.terminal
    return EventPage(decoded, last, done)


aread = twin(read)
aread_batch = twin(read_batch)
