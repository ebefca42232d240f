"""The workloads with Django's ORM alone: a few transactions, their rows by bulk_create, a thread a run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

import django
from django.conf import settings

from benchmarks.subject import Bare, check_texts, database_url, main
from benchmarks.workload import PROMPT, TOOL, Workload, weather
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
        """Write one run in its transactions."""
        return await self._in_thread(_run, self.workload)

    async def close(self) -> None:
        """Close each thread's connection: all of them meet, so that each closes its own."""
        meeting = Barrier(self.count)
        await asyncio.gather(*(self._in_thread(_leave, meeting) for _ in range(self.count)))
        self.threads.shutdown()

    async def check(self, numbers: range) -> None:
        """See that the last runs have their deltas."""
        with ThreadPoolExecutor(1) as thread:
            texts = await asyncio.get_running_loop().run_in_executor(thread, _texts, len(numbers))
        check_texts(texts, len(numbers), self.workload.text)


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


def _run(workload: Workload) -> str:
    with transaction.atomic():
        run = Run.objects.create(status="running")
        Message.objects.create(run=run, author="user", body=PROMPT)
    step = 1
    for turn in range(1, workload.rounds + 1):
        asked = workload.asked(turn)
        calls = [{"id": call.id, "name": TOOL, "arguments": call.arguments} for call in asked]
        with transaction.atomic():
            Step.objects.create(run=run, number=step, kind="model", result=calls)
        results = [weather(**call.arguments) for call in asked]
        with transaction.atomic():
            Step.objects.bulk_create(
                Step(run=run, number=step + place, kind="tool", result=result)
                for place, result in enumerate(results, 1)
            )
        step += 1 + len(results)
    text = "".join(workload.words)
    with transaction.atomic():
        Event.objects.bulk_create(
            Event(run=run, seq=seq, body={"delta": delta}) for seq, delta in enumerate(workload.deltas)
        )
        Step.objects.create(run=run, number=step, kind="model", result=text)
        Message.objects.create(run=run, author="agent", body=text)
    with transaction.atomic():
        Run.objects.filter(pk=run.pk).update(status="done", output=text)
    return text


if __name__ == "__main__":
    main("floor: Django ORM", OrmFloor)
