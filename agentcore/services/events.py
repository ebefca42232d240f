"""Reading a run's log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ..access import visible_runs
from ..exceptions import Invalid, NotFound
from ..models import Run
from ..streams import log
from ..values import events
from . import runs
from .ids import id_of
from .twins import twin

MOST = 1000


@dataclass(frozen=True)
class EventPage:
    """Events in order; read on with `after=next_after`, until `done`: the run has ended and its log holds no more."""

    events: list[dict[str, Any]]
    next_after: int
    done: bool


def read(run: Run | UUID | str, *, user: Any, after: int = -1, limit: int = 500) -> EventPage:
    """Return a page of a run's log after a position; `after=-1` reads from the beginning.

    Raises `NotFound` for a run `user` does not see.
    """
    found = runs.get(run, user=user)
    return _page(found, log.read(found.stream_id, after, max(1, min(limit, MOST))), after)


def read_batch(cursors: Mapping[UUID | str, int], *, user: Any, limit: int = 500) -> dict[UUID, EventPage]:
    """Return a page of several runs' logs, each after its own position, in a constant number of queries.

    Raises `NotFound` where `user` may not see one of them, and `Invalid` where one is named twice.
    """
    after = {id_of(key): position for key, position in cursors.items()}
    if len(after) != len(cursors):
        raise Invalid("A run is named twice. Name each once, with one position.")
    found = visible_runs(user).in_bulk(list(after))
    if len(found) != len(after):
        raise NotFound
    pages = log.read_batch({found[key].stream_id: after[key] for key in after}, max(1, min(limit, MOST)))
    return {key: _page(found[key], pages[found[key].stream_id], after[key]) for key in after}


def _page(run: Run, entries: list[log.Entry], after: int) -> EventPage:
    """Return the page; the run was read before the entries, so an ended one has none beyond an empty page."""
    decoded = [events.decode(entry.data) for entry in entries]
    last = entries[-1].seq if entries else after
    done = decoded[-1]["type"] == events.Done.type if decoded else run.terminal
    return EventPage(decoded, last, done)


aread = twin(read)
aread_batch = twin(read_batch)
