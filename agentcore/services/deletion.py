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
"""After how long the sweep tries again to remove a thread that a row of the project protects."""


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
    """Return up to `limit` threads to remove: deleted while a worker drove a run of theirs, or with their owners."""
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
    """Hide a thread, cancel its live runs, and remove it if none is left; returns whether it is removed."""
    with transaction.atomic():
        held = _hold_runs(thread_id)
        # From here on a send waits for this row, and then finds no thread.
        Thread.objects.filter(pk=thread_id).update(removal_due_at=DbNow())
        for row in held.values():
            if not row.status.terminal:
                runs.end_held(row, REASON)
        if Run.objects.filter(thread=thread_id).live().exists():
            return False
        Thread.objects.filter(pk=thread_id).delete()
    return True


def _hold_runs(thread_id: UUID) -> dict[UUID, Held]:
    """Lock the runs that the deletion changes, ended ones too, before the thread's own row is locked.

    While a worker has yet to end a run that was canceled, nothing can be removed: only the other live runs are
    locked, to be canceled too.
    """
    of_thread = Run.objects.filter(thread=thread_id)
    told = of_thread.filter(status=RunStatus.RUNNING, cancel_requested_at__isnull=False)
    changed = of_thread.live().exclude(pk__in=told) if told.exists() else of_thread
    return fence.hold_all(changed.values_list("pk", flat=True), tuple(RunStatus))


def remove_at_once(limit: int) -> None:
    """Remove up to `limit` threads that are due; those with a locked row are left to the sweep."""
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
    """Deletes logs whose run or thread is gone; it goes through all streams, a few at a time, again and again.

    Earlier releases left such logs behind. A log and its run are committed together, so no new log is mistaken for one.
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
