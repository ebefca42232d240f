"""I19: what was deleted is gone, with all that belonged to it."""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import Exists, OuterRef, Q

from ....models import Message, Run, Thread
from ....streams.models import Record, Stream
from .evidence import Evidence, Violation


def of_all(evidence: Evidence) -> Iterator[Violation]:
    """Look for logs without a run or a thread, and for threads that should be gone by now."""
    of_a_run = Q(name__startswith="run:") & ~Exists(Run.objects.filter(stream=OuterRef("pk")))
    of_a_thread = Q(name__startswith="thread:") & ~Exists(Thread.objects.filter(stream=OuterRef("pk")))
    for stream in Stream.objects.filter(of_a_run | of_a_thread).order_by("name"):
        yield Violation("I19", "", f"log {stream.name} is there, and what it belongs to is not")
    unread = Record.objects.filter(~Exists(Stream.objects.filter(pk=OuterRef("stream_id"))))
    for stream_id in unread.order_by("stream_id").values_list("stream_id", flat=True).distinct():
        yield Violation("I19", "", f"records of log {stream_id} are there, and the log is not")
    if evidence.calm:
        yield from _deleted(evidence)


def _deleted(evidence: Evidence) -> Iterator[Violation]:
    hidden = Thread.objects.exclude(removal_due_at=None).values_list("pk", flat=True)
    for thread in sorted({*hidden, *Thread.objects.filter(pk__in=evidence.deleted).values_list("pk", flat=True)}):
        yield Violation("I19", "", f"thread {thread} was deleted and is still there although all is calm")
    for model in (Run, Message):
        for row in model.objects.filter(thread__in=evidence.deleted).order_by("pk"):
            yield Violation("I19", "", f"{model._meta.verbose_name} {row.pk} of a deleted thread is there")
