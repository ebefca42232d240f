"""Retention: threads that nobody has touched for long are deleted, with all that was said and done in them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import ProtectedError, QuerySet, RestrictedError

from ..database.again import unit
from ..database.dialect import DbNow
from ..journal import fence
from ..models import Run, Thread, ToolCall
from ..states import RunStatus, ToolCallStatus
from ..values.logextra import log_extra
from . import places

logger = logging.getLogger("agentcore.retention")


@dataclass(frozen=True)
class Pruned:
    """What was deleted; `kept` counts threads that a row of the project still needs."""

    threads: int = 0
    kept: int = 0


def prunable(older_than: timedelta) -> QuerySet[Thread]:
    """Return the threads untouched for so long that have no live run, and no call that waits for an answer."""
    owed = ToolCall.objects.filter(status=ToolCallStatus.EFFECT_UNVERIFIED).values("run__thread")
    busy = Run.objects.live().values("thread")
    old = Thread.objects.filter(updated_at__lt=DbNow() - older_than)
    return old.exclude(pk__in=busy).exclude(pk__in=owed)


def prune(older_than: timedelta) -> Pruned:
    """Delete what is prunable, a thread at a time, so that nobody waits for long; safe to run at any time."""
    threads = kept = 0
    for thread_id in list(prunable(older_than).order_by("updated_at").values_list("pk", flat=True)):
        try:
            threads += _delete(thread_id, older_than)
        except (ProtectedError, RestrictedError):
            kept += 1
    report = Pruned(threads, kept)
    logger.info("pruned: %s", report, extra=log_extra("pruned"))
    return report


@unit
def _delete(thread_id: UUID, older_than: timedelta) -> int:
    """Delete one thread; 0 where somebody has come back to it."""
    with transaction.atomic():
        thread = prunable(older_than).filter(pk=thread_id).first()
        if thread is None:
            return 0
        fence.hold_all(thread.runs.values_list("pk", flat=True), tuple(RunStatus))
        places.lock(thread)  # a send waits for this lock, and then finds no thread
        if Run.objects.filter(thread=thread).live().exists():
            return 0
        thread.delete()
    return 1
