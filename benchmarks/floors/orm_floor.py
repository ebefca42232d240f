"""W1 with Django's ORM alone: five transactions, the deltas by bulk_create, a thread a run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

import django
from django.conf import settings

from benchmarks import w1
from benchmarks.subject import Bare, check_texts, database_url, main
from supportdemo.environment import database

T = TypeVar("T")
# More would wait for the interpreter's lock.
THREADS = 4

settings.configure(
    DATABASES={"default": {**database(database_url()), "CONN_MAX_AGE": None}}, USE_TZ=True, INSTALLED_APPS=[]
)
django.setup()

from django.db import connection, transaction  # noqa: E402

from benchmarks.floors.models import Event, Message, Run, Step  # noqa: E402


class OrmFloor(Bare):
    """The floor of Django's ORM, on either database."""

    threads: ThreadPoolExecutor
    count: int

    async def open(self, in_flight: int) -> None:
        """Make the threads and, the first time, the tables."""
        self.count = min(in_flight, THREADS)
        self.threads = ThreadPoolExecutor(self.count)
        await self._in_thread(_make_tables)

    async def _in_thread(self, function: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.threads, function, *args)

    async def run(self, number: int) -> str:
        """Write one run in five transactions."""
        return await self._in_thread(_run)

    async def close(self) -> None:
        """Close each thread's connection: all of them meet, so that each closes its own."""
        meeting = Barrier(self.count)
        await asyncio.gather(*(self._in_thread(_leave, meeting) for _ in range(self.count)))
        self.threads.shutdown()

    async def check(self, numbers: range) -> None:
        """See that the last runs have their 40 deltas."""
        with ThreadPoolExecutor(1) as thread:
            texts = await asyncio.get_running_loop().run_in_executor(thread, _texts, len(numbers))
        check_texts(texts, len(numbers))


def _texts(count: int) -> list[str]:
    runs = Run.objects.order_by("-pk")[:count].prefetch_related("event_set")
    texts = ["".join(event.body["delta"] for event in sorted(run.event_set.all(), key=_seq)) for run in runs]
    connection.close()
    return texts


def _seq(event: Event) -> int:
    return event.seq


def _make_tables() -> None:
    if Run._meta.db_table not in connection.introspection.table_names():
        with connection.schema_editor() as editor:
            for model in (Run, Message, Step, Event):
                editor.create_model(model)


def _leave(meeting: Barrier) -> None:
    meeting.wait(10)
    connection.close()


def _run() -> str:
    with transaction.atomic():
        run = Run.objects.create(status="running")
        Message.objects.create(run=run, author="user", body=w1.PROMPT)
    with transaction.atomic():
        Step.objects.create(run=run, number=1, kind="model", result={"name": w1.TOOL, "arguments": w1.ARGUMENTS})
    answer = w1.weather(**w1.ARGUMENTS)
    with transaction.atomic():
        Step.objects.create(run=run, number=2, kind="tool", result=answer)
    text = "".join(w1.WORDS)
    with transaction.atomic():
        Event.objects.bulk_create(Event(run=run, seq=seq, body={"delta": word}) for seq, word in enumerate(w1.WORDS))
        Step.objects.create(run=run, number=3, kind="model", result=text)
        Message.objects.create(run=run, author="agent", body=text)
    with transaction.atomic():
        Run.objects.filter(pk=run.pk).update(status="done", output=text)
    return text


if __name__ == "__main__":
    main("floor: Django ORM", OrmFloor())
