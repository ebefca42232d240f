"""What goes with a row that is deleted: a thread with its owner, a log with its run; and nothing while a run lives."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.models import Model, ProtectedError
from django.db.models.deletion import Collector
from django.db.models.functions import Now
from django.db.models.signals import post_delete, pre_delete
from django.dispatch import receiver

from ..states import RunStatus
from ..streams.models import Record, Stream


def remove_with_owner(collector: Collector, field: Any, threads: Iterable[Model], using: str) -> None:
    """Have the threads of a deleted owner removed; an `on_delete` for `Thread.owner`.

    They are hidden at once and removed by the next sweep: a worker may still be writing
    to their runs, and deleting an account must not wait for that.
    """
    rows = list(threads)
    collector.add_field_update(field.model._meta.get_field("removal_due_at"), Now(), rows)
    collector.add_field_update(field, None, rows)


@receiver(pre_delete, sender="agentcore.Run", dispatch_uid="agentcore.refuse_to_delete_a_live_run")
def _refuse_live(instance: Any, **kwargs: Any) -> None:
    if not RunStatus(instance.status).terminal:
        raise ProtectedError(
            f"Run {instance.pk} is {instance.status}, so it and its thread cannot be deleted. "
            "Cancel it first, or call agent.threads.delete(), which does.",
            {instance},
        )


@receiver(post_delete, sender="agentcore.Run", dispatch_uid="agentcore.delete_log_of_run")
@receiver(post_delete, sender="agentcore.Thread", dispatch_uid="agentcore.delete_log_of_thread")
def _delete_log(instance: Any, using: str, **kwargs: Any) -> None:
    # Each by one statement: a log may be longer than memory is large.
    Record.objects.using(using).filter(stream_id=instance.stream_id).delete()
    Stream.objects.using(using).filter(pk=instance.stream_id).delete()
