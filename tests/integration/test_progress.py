"""What a tool shows while it runs: however much it is, it delays neither the run's lease nor its result."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from django.conf import LazySettings

from agentcore import SYSTEM, Checkable, Tool, ToolContext, tool
from agentcore.engine.drive import Outcome
from agentcore.engine.runtime import Runtime
from agentcore.engine.steps import progress
from agentcore.engine.steps.progress import MOST_AT_ONCE, Progress
from agentcore.journal import writer as journal
from agentcore.models import Run, ToolCall
from agentcore.services import events, execution
from agentcore.testing import Turn, check_invariants
from tests.integration.room import drive_as_worker, make

real = pytest.mark.django_db(transaction=True)
MANY = 3000
AWAY = 0.01  # as long as a commit takes at least: a database that is a network away
BESIDE = 20  # more than the commits that a run takes where its tool shows nothing


@pytest.fixture(autouse=True)
def _a_short_lease(settings: LazySettings) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "LEASE_SECONDS": 2}


def shown(run: Run) -> list[Any]:
    found: list[dict[str, Any]] = []
    while page := events.read(run.pk, user=SYSTEM, after=len(found) - 1, limit=1000).events:
        found += page
    return [event["value"] for event in found if event["type"] == "tool.progress"]


def in_one_go(effect: str) -> Tool:
    @tool(name="act", effect=effect)
    def act(ctx: ToolContext) -> str:
        """Show a lot."""
        for number in range(MANY):
            ctx.progress(number)
        return "done"

    return act


def on_the_loop(*, pause_every: int = 0) -> Tool:
    @tool(name="act")
    async def act(ctx: ToolContext) -> str:
        """Show a lot."""
        for number in range(MANY):
            ctx.progress(number)
            if pause_every and number % pause_every == 0:
                await asyncio.sleep(0.001)
        return "done"

    return act


def from_many_threads() -> Tool:
    @tool(name="act")
    def act(ctx: ToolContext) -> str:
        """Show a lot from several threads at once."""
        threads = [
            threading.Thread(target=lambda: [ctx.progress(number) for number in range(MANY // 4)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ctx.progress(MANY - 1)
        return "done"

    return act


@real
@pytest.mark.covers("fc:A16")
@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize(
    "make_tool",
    [
        lambda: in_one_go("unsafe"),
        lambda: on_the_loop(pause_every=100),
        on_the_loop,
        from_many_threads,
        lambda: in_one_go("atomic"),
    ],
    ids=["sync", "async", "on-the-loop", "threads", "atomic"],
)
def test_thousands_of_values_cost_neither_the_lease_nor_the_result(make_tool: Callable[[], Tool], alone: bool) -> None:
    room = make([Turn(calls=[("act", {})]), Turn(text="Done.")], [make_tool()])
    run = room.send()
    batches, times = 0, list[float]()

    def slow(*args: Any) -> Any:
        nonlocal batches
        batches += 1
        time.sleep(AWAY)
        return commit_batch(*args)

    def noted(self: Progress, value: Any) -> None:
        times.append(time.monotonic())
        show(self, value)

    commit_batch, show = journal.commit_batch, Progress.show
    began = time.monotonic()
    with mock.patch.object(journal, "commit_batch", slow), mock.patch.object(Progress, "show", noted):
        assert drive_as_worker(run, alone=alone) is Outcome.ENDED
    assert time.monotonic() - began < 20
    call = ToolCall.objects.get()
    assert (call.status, call.result_json, call.tries) == ("succeeded", "done", 1)
    values = shown(run)
    assert values[-1] == MANY - 1, "the last one is what counts"
    assert len(values) >= MOST_AT_ONCE
    one_at_a_time = (times[-1] - times[0]) / AWAY
    assert batches <= one_at_a_time + BESIDE
    check_invariants()


@real
def test_a_few_values_are_all_shown_and_in_order() -> None:
    @tool
    def act(ctx: ToolContext) -> str:
        """Show a few."""
        for number in range(MOST_AT_ONCE):
            ctx.progress(number)
        return "done"

    run = make([Turn(calls=[("act", {})]), Turn(text="Done.")], [act]).send()
    execution.drive(run.pk, Runtime("worker"))
    assert shown(run) == list(range(MOST_AT_ONCE))


@real
def test_large_values_are_bounded_together(settings: LazySettings) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "RESULT_LIMIT": 1000}

    @tool
    async def act(ctx: ToolContext) -> str:
        """Show much at once."""
        for number in range(50):
            ctx.progress(f"{number:03}" * 100)
        return "done"

    run = make([Turn(calls=[("act", {})]), Turn(text="Done.")], [act]).send()
    execution.drive(run.pk, Runtime("worker"))
    assert [value[:3] for value in shown(run)] == ["047", "048", "049"]


@real
def test_what_a_check_shows_is_written() -> None:
    def check(arguments: Any, ctx: Any) -> str:
        ctx.progress("looking")
        return "it happened"

    @tool(effect=Checkable(check))
    def act() -> str:
        """Act, and say nothing."""
        raise ConnectionError

    run = make([Turn(calls=[("act", {})]), Turn(text="Done.")], [act]).send()
    execution.drive(run.pk, Runtime("worker"))
    assert ToolCall.objects.get().result_json == "it happened" and shown(run) == ["looking"]


async def test_one_that_cannot_be_written_does_not_keep_back_the_next() -> None:
    written: list[int] = []

    async def commit(said: Any) -> None:
        await asyncio.sleep(0)
        if not written:
            written.append(-1)
            raise ValueError("no")
        written.extend(event.value for event in said.events)

    found = Progress("call_1", commit)
    found.show(1)
    await asyncio.sleep(0.01)
    found.show(2)
    await asyncio.sleep(0.01)
    assert written == [-1, 2]
    await found.end()
    found.show(3)
    await asyncio.sleep(0.01)
    assert written == [-1, 2]


async def test_the_last_values_are_written_though_the_commit_before_them_was_not() -> None:
    written: list[int] = []
    fails = iter([True])

    async def commit(said: Any) -> None:
        await asyncio.sleep(0.01)
        if next(fails, False):
            raise ValueError("no")
        written.extend(event.value for event in said.events)

    found = Progress("call_1", commit)
    found.show(1)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    found.show(2)
    await found.end()
    assert written == [2]


async def test_the_loop_is_woken_once_for_all_that_gathers() -> None:
    written: list[int] = []

    async def commit(said: Any) -> None:
        written.extend(event.value for event in said.events)

    loop = asyncio.get_running_loop()
    with mock.patch.object(loop, "call_soon_threadsafe", wraps=loop.call_soon_threadsafe) as woken:
        found = Progress("call_1", commit)
        for number in range(MANY):
            found.show(number)
    await found.end()
    assert woken.call_count == 1
    assert written == list(range(MANY - MOST_AT_ONCE, MANY))


async def test_nothing_is_written_while_nothing_is_shown() -> None:
    found = progress.Progress("call_1", mock.AsyncMock(side_effect=AssertionError))
    await found.end()
    assert len(asyncio.all_tasks()) == 1
