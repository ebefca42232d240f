"""The turns and run numbers of a thread, allocated under the lock of its row."""

from __future__ import annotations

from dataclasses import dataclass

from ..database.dialect import DbNow
from ..exceptions import NotFound
from ..models import Thread


@dataclass(frozen=True)
class Place:
    """The turn and the number that were allocated to a run; nobody else gets them."""

    turn: int
    number: int


def allocate(thread: Thread, *, turns: int = 0, runs: int = 0) -> Place:
    """Allocate so many of the thread's turns and numbers, and return the first of each; raises `NotFound`.

    One conditional UPDATE is enough where nobody has allocated any since the thread was read.
    The row stays locked until the transaction ends.
    """
    while not _try_to_allocate(thread, turns, runs):
        lock_and_reread(thread)
    place = Place(thread.next_order, thread.next_number)
    thread.next_order, thread.next_number = place.turn + turns, place.number + runs
    return place


def lock_and_reread(thread: Thread) -> None:
    """Lock a thread that may have changed since it was read, and read again what it allocates; raises `NotFound`."""
    lock(thread)
    now = Thread.objects.kept().filter(pk=thread.pk).values_list("next_order", "next_number").first()
    if now is None:
        raise NotFound
    thread.next_order, thread.next_number = now


def lock(thread: Thread) -> None:
    """Lock a thread's row: the order in which sends get the lock is the order of their runs."""
    Thread.objects.filter(pk=thread.pk).update(updated_at=DbNow())


def _try_to_allocate(thread: Thread, turns: int, runs: int) -> bool:
    as_read = Thread.objects.kept().filter(pk=thread.pk, next_order=thread.next_order, next_number=thread.next_number)
    after = {"next_order": thread.next_order + turns, "next_number": thread.next_number + runs}
    return bool(as_read.update(**after, updated_at=DbNow()))
