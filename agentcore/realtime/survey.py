"""What a socket may see of its thread at one moment: one visit to the database."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ..access import visible_threads
from ..models import Run
from .frames import Name
from .tickets import Ticket

__all__ = ["MAX_LIVE_RUNS", "Found", "Survey", "find_run", "may_see", "survey"]

MAX_LIVE_RUNS = 50
"""The newest unended runs of a thread that are followed unasked."""


@dataclass(frozen=True, slots=True)
class Found:
    """A stream that may be followed."""

    name: Name
    stream_id: UUID
    next_seq: int
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Survey:
    """The thread's own stream, its unended runs, and those of its runs that were asked for."""

    thread: Found
    runs: tuple[Found, ...]


def may_see(ticket: Ticket | None, thread_id: UUID) -> bool:
    """Whether the thread exists and is visible to the ticket's user."""
    return _visible(ticket, thread_id) is not None


def survey(ticket: Ticket, thread_id: UUID, asked: Collection[UUID]) -> Survey | None:
    """Return what can be followed, None where the thread is not visible.

    The thread's position is read before its runs: a run that is missed here is announced after that position.
    """
    thread = _visible(ticket, thread_id)
    if thread is None:
        return None
    runs = Run.objects.filter(thread_id=thread_id)
    live = runs.live().select_related("stream").order_by("-number")[:MAX_LIVE_RUNS]
    found = {run.pk: _found(run) for run in [*live, *runs.filter(pk__in=list(asked))]}
    return Survey(Found(Name("thread", thread_id), thread.stream_id, thread.stream.next_seq), tuple(found.values()))


def find_run(thread_id: UUID, run_id: UUID) -> Found | None:
    """Return a run of the thread."""
    run = Run.objects.filter(thread_id=thread_id, pk=run_id).first()
    return _found(run) if run is not None else None


def _visible(ticket: Ticket | None, thread_id: UUID) -> Any | None:
    user = ticket.user() if ticket is not None else None
    if user is None:
        return None
    return visible_threads(user).filter(pk=thread_id).select_related("stream").first()


def _found(run: Run) -> Found:
    return Found(Name("run", run.pk), run.stream_id, run.next_seq, run.terminal)
