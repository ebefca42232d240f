"""A row that somebody holds delays the runs that need it, and no other of the same transaction."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connections, transaction

from agentcore import SYSTEM, Agent
from agentcore.journal import fence
from agentcore.models import Run
from agentcore.streams.models import Stream
from tests.integration.journal.together import RUNS, drive
from tests.integration.room import fresh
from tests.stack import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def somebody_holds(lock: Callable[[], object]) -> Iterator[Callable[[], None]]:
    """Hold in a transaction of another thread what `lock` locks, until what this yields is called."""
    locked, over = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            assert lock() is not None
            locked.set()
            assert over.wait(30)
        connections.close_all()

    def let_go() -> None:
        over.set()
        holder.join(10)

    holder = threading.Thread(target=hold, daemon=True)
    holder.start()
    assert locked.wait(10)
    try:
        yield let_go
    finally:
        let_go()


def drive_while_held(runs: list[Run], lock: Callable[[], object]) -> list[Any]:
    """Drive runs while somebody holds what the first one needs, until all the others have ended."""
    held, others = runs[0], runs[1:]

    def all_others_end() -> None:
        mine = Run.objects.filter(pk__in=[run.pk for run in others], status="succeeded")
        try:
            wait_for(lambda: mine.count() == len(others), 20, "the other runs to end")
            assert fresh(held).status == "pending"
        finally:
            let_go()
            connections.close_all()

    with somebody_holds(lock) as let_go:
        return drive(runs, all_others_end)


@pytest.mark.postgres
@pytest.mark.covers("fault:D8")
def test_one_held_row_delays_only_its_own_run(sent: list[Run]) -> None:
    assert drive_while_held(sent, lambda: fence.hold(sent[0].pk)) == ["ended"] * RUNS


@pytest.mark.postgres
@pytest.mark.covers("fault:D8")
def test_one_held_row_delays_only_its_own_run_and_not_the_others_of_its_thread(agent: Agent, long_lease: None) -> None:
    thread = agent.threads.create(user=SYSTEM)
    runs = [agent.runs.send(thread, "Add.", user=SYSTEM) for _ in range(3)]
    assert drive_while_held(runs, lambda: fence.hold(runs[0].pk)) == ["ended"] * 3


@pytest.mark.postgres
def test_a_threads_log_that_somebody_writes_delays_only_the_runs_of_that_thread(sent: list[Run]) -> None:
    log_of = sent[0].thread.stream_id
    locked = Stream.objects.select_for_update(no_key=True)
    assert drive_while_held(sent, lambda: locked.get(pk=log_of)) == ["ended"] * RUNS
