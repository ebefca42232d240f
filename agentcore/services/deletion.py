"""Deletion: a thread goes whole, with the logs of its runs, once no worker can still write to it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS, OperationalError, transaction
from django.db.models import Exists, OuterRef, ProtectedError, Q, RestrictedError, Value
from django.db.models.deletion import Collector

from ..access import SYSTEM, get_policy
from ..database.again import unit
from ..database.dialect import DbNow
from ..database.outage import is_conflict
from ..exceptions import Conflict, NotAllowed
from ..journal import fence
from ..journal.commit import Held
from ..models import Run, Thread
from ..states import RunStatus
from ..streams.models import Record, Stream
from ..values.logextra import log_extra
from . import runs, threads
from .patience import impatient
from .twins import twin

logger = logging.getLogger("agentcore.deletion")

REASON = "Its thread was deleted."
IN_USE = "Rows of the project still need this thread, so it cannot be deleted: {}."
TRY_AGAIN = timedelta(hours=1)
"""How long a thread is left alone that could not be removed because a row of the project needs it."""


@unit
def delete(thread: Thread | UUID | str, *, user: Any) -> None:
    """Delete a thread with all that was said and done in it, logs included.

    From then on nobody sees it. Its runs are canceled; while a worker still drives one,
    the rows stay hidden, and the sweep removes them as soon as that run has ended.
    Raises `NotFound`, `NotAllowed`, or `Conflict` where a row of the project protects it.
    """
    found = threads.get(thread, user=user)
    if user is not SYSTEM and not get_policy().may_delete(user, found):
        raise NotAllowed("You may see this thread, but not delete it.")
    try:
        Collector(using=DEFAULT_DB_ALIAS, origin=found).collect([found])
    except (ProtectedError, RestrictedError) as error:
        raise Conflict(IN_USE.format(_names(error))) from error
    remove(found.pk)


def due(limit: int) -> list[UUID]:
    """Return up to `limit` threads to remove: deleted while a worker drove them, or with their owners."""
    rows = Thread.objects.filter(removal_due_at__lte=DbNow()).order_by("removal_due_at")
    return list(rows.values_list("pk", flat=True)[:limit])


def remove_or_put_off(thread_id: UUID) -> bool:
    """Remove a thread that is due; one that a row of the project protects is left hidden for an hour."""
    try:
        return remove(thread_id)
    except (ProtectedError, RestrictedError) as error:
        # The account it belonged to may be gone, so there is nobody else to tell.
        logger.warning(
            "a deleted thread stays hidden, because rows of the project need it: %s",
            _names(error),
            extra=log_extra("removal_put_off", thread_id=str(thread_id)),
        )
        Thread.objects.filter(pk=thread_id).update(removal_due_at=DbNow() + Value(TRY_AGAIN))
        return False


@unit
def remove(thread_id: UUID) -> bool:
    """Hide a thread, cancel what lives in it, and remove it if nothing lives any more; returns whether it is gone."""
    with transaction.atomic():
        held = _hold_runs(thread_id)
        # Whoever sends now waits for this row, and finds no thread then.
        Thread.objects.filter(pk=thread_id).update(removal_due_at=DbNow())
        for row in held.values():
            if not row.status.terminal:
                runs.end_held(row, REASON)
        if Run.objects.filter(thread=thread_id).live().exists():
            return False
        Thread.objects.filter(pk=thread_id).delete()
    return True


def _hold_runs(thread_id: UUID) -> dict[UUID, Held]:
    """Lock the runs that the thread's deletion will change; those that have ended too, before the thread's own row.

    While a worker is still asked to end one, nothing can be removed, and only the other live ones are held.
    """
    of_thread = Run.objects.filter(thread=thread_id)
    told = of_thread.filter(status=RunStatus.RUNNING, cancel_requested_at__isnull=False)
    changed = of_thread.live().exclude(pk__in=told) if told.exists() else of_thread
    return fence.hold_all(changed.values_list("pk", flat=True), tuple(RunStatus))


def remove_at_once(limit: int) -> None:
    """Remove up to `limit` threads that are due, as far as nobody holds a row of theirs; the sweep does the rest."""
    for thread_id in due(limit):
        try:
            with impatient():
                remove_or_put_off(thread_id)
        except OperationalError as error:
            if not is_conflict(error):
                raise
            logger.info(
                "somebody holds a row of the thread; the sweep removes it",
                extra=log_extra("removal_held", thread_id=str(thread_id)),
            )


class LogSweep:
    """Goes through all streams, a few at a time and again from the beginning, for logs whose run or thread is gone.

    Earlier releases left them behind. A log and its run are committed together, so none is taken too early.
    """

    def __init__(self) -> None:
        self._after: UUID | None = None

    def look(self, limit: int) -> int:
        """Look at the next `limit` streams, and return how many were deleted."""
        rows = Stream.objects.all() if self._after is None else Stream.objects.filter(pk__gt=self._after)
        looked_at = list(rows.order_by("pk").values_list("pk", flat=True)[:limit])
        self._after = looked_at[-1] if len(looked_at) == limit else None
        of_a_run = Q(name__startswith="run:") & ~Exists(Run.objects.filter(stream=OuterRef("pk")))
        of_a_thread = Q(name__startswith="thread:") & ~Exists(Thread.objects.filter(stream=OuterRef("pk")))
        left = list(Stream.objects.filter(of_a_run | of_a_thread, pk__in=looked_at).values_list("pk", flat=True))
        if left:
            with transaction.atomic():
                Record.objects.filter(stream__in=left).delete()
                Stream.objects.filter(pk__in=left).delete()
            logger.info("deleted %s logs without a run or thread", len(left), extra=log_extra("logs_deleted"))
        return len(left)


def _names(error: ProtectedError | RestrictedError) -> str:
    objects: Iterable[object] = (
        error.protected_objects if isinstance(error, ProtectedError) else error.restricted_objects
    )
    return ", ".join(sorted({type(item).__name__ for item in objects}))


adelete = twin(delete)
