"""Locks the row of a thread, which allocates its turns and the numbers of its runs."""

from __future__ import annotations

from ..database.dialect import DbNow
from ..exceptions import NotFound
from ..models import Thread


def hold(thread: Thread) -> None:
    """Lock a thread's row until the transaction ends, and read again what it allocates next; raises `NotFound`.

    One conditional UPDATE is enough where nobody has allocated anything since the thread was read.
    """
    as_read = Thread.objects.kept().filter(pk=thread.pk, next_order=thread.next_order, next_number=thread.next_number)
    if as_read.update(updated_at=DbNow()):
        return
    lock(thread)
    now = Thread.objects.kept().filter(pk=thread.pk).values_list("next_order", "next_number").first()
    if now is None:
        raise NotFound
    thread.next_order, thread.next_number = now


def lock(thread: Thread) -> None:
    """Lock a thread's row: the order in which sends get the lock is the order of their runs."""
    Thread.objects.filter(pk=thread.pk).update(updated_at=DbNow())
