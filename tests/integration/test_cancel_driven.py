"""A cancel while a worker drives the run: it is there within about a second, and truthful about running tools."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from agentcore import SYSTEM, ToolContext, Usage, tool
from agentcore.engine import transitions
from agentcore.engine.steps import tools
from agentcore.exceptions import Conflict
from agentcore.models import Message, ToolCall
from agentcore.providers import StepFinished, TextDelta, UsageReported
from agentcore.services import runs, sending
from agentcore.testing import Turn
from tests.integration.room import assert_ended_once, drive_as_worker, driven, fresh, log, make, types
from tests.stack import wait_for

# A worker that cannot be stopped must not be saved by its lease.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("long_lease")]

PROMPTLY = 1.5  # seconds: "about a second", on a machine that is busy with other tests


class Speaks:
    """Speaks until its stream is closed, and notes when that was."""

    name, provider = "speaks", "tests"

    def __init__(self, pause: float = 0.02) -> None:
        self.pause = pause
        self.closed_at = 0.0

    async def stream(self, request):
        try:
            yield UsageReported(Usage(7, 0, 7))
            for number in range(10_000):
                yield TextDelta(f"{number} ")
                await asyncio.sleep(self.pause)
            yield StepFinished("stop")
        finally:
            self.closed_at = time.monotonic()


class Tools:
    """Tools that stay in their bodies until they are told to stop, and what they noticed."""

    def __init__(self) -> None:
        self.inside = threading.Event()
        self.stopped_at = 0.0


SEEN = Tools()


def _wait_sync(ctx: ToolContext) -> str:
    SEEN.inside.set()
    wait_for(lambda: ctx.cancelled, 20, "the tool to be told")
    SEEN.stopped_at = time.monotonic()
    ctx.progress("too late")
    return "too late"


async def _wait_async() -> str:
    SEEN.inside.set()
    try:
        await asyncio.sleep(20)
    finally:
        SEEN.stopped_at = time.monotonic()
    return "too late"


@tool
def sync_unsafe(ctx: ToolContext) -> str:
    """Wait in a thread."""
    return _wait_sync(ctx)


@tool(effect="pure")
def sync_pure(ctx: ToolContext) -> str:
    """Wait in a thread, without an effect."""
    return _wait_sync(ctx)


@tool
async def async_unsafe() -> str:
    """Wait on the loop."""
    return await _wait_async()


@tool(effect="pure")
async def async_pure() -> str:
    """Wait on the loop, without an effect."""
    return await _wait_async()


@pytest.mark.covers("api:C1", "fault:A8", "promise:P8")
def test_a_cancel_in_the_middle_of_a_stream_closes_it_and_keeps_what_was_said(monkeypatch):
    model = Speaks()
    end = transitions.end

    def once_it_is_closed(*args: Any, **kwargs: Any) -> Any:
        assert model.closed_at, "the run ends while the provider still speaks"
        return end(*args, **kwargs)

    monkeypatch.setattr(transitions, "end", once_it_is_closed)
    run = make(model).send()
    with driven(run) as worker:
        wait_for(lambda: types(run).count("text.delta") > 2, 20, "some text")
        started = time.monotonic()
        runs.cancel(run, user=SYSTEM, reason="Enough.")
        runs.cancel(run, user=SYSTEM, reason="Enough.")
        worker.join(20)
        assert time.monotonic() - started < PROMPTLY
        assert 0 < model.closed_at - started < PROMPTLY
    assert_ended_once(run, "canceled")
    run = fresh(run)
    assert (run.error_code, run.error_message) == ("canceled", "Enough.")
    said = Message.objects.get(run=run, author_kind="agent")
    assert said.status == "canceled" and said.text.startswith("0 1 2 ")
    assert "".join(event["text"] for event in log(run) if event["type"] == "text.delta") == said.text
    assert run.used.total_tokens == 7
    assert not run.steps.filter(status="started").exists()


@pytest.mark.covers("api:C1", "fault:A8")
def test_a_cancel_reaches_a_model_that_says_nothing():
    model = Speaks(pause=20)
    run = make(model).send()
    with driven(run) as worker:
        wait_for(lambda: "text.delta" in types(run), 20, "the first word")
        started = time.monotonic()
        runs.cancel(run, user=SYSTEM)
        worker.join(20)
        assert model.closed_at - started < PROMPTLY
    assert_ended_once(run, "canceled")


@pytest.mark.covers("api:C1", "fault:A7", "promise:P5", "promise:P8")
@pytest.mark.parametrize(
    "name, outcome",
    [
        ("sync_unsafe", "effect_unverified"),
        ("sync_pure", "canceled"),
        ("async_unsafe", "effect_unverified"),
        ("async_pure", "canceled"),
    ],
)
def test_a_cancel_reaches_a_running_tool_and_says_what_is_known_of_its_effect(name, outcome):
    SEEN.__init__()  # type: ignore[misc]
    room = make([Turn(calls=[(name, {})]), Turn(text="Never.")], [sync_unsafe, sync_pure, async_unsafe, async_pure])
    run = room.send()
    with driven(run) as worker:
        assert SEEN.inside.wait(20)
        started = time.monotonic()
        runs.cancel(run, user=SYSTEM)
        worker.join(20)
        wait_for(lambda: SEEN.stopped_at, 5, "the tool to stop")
        assert SEEN.stopped_at - started < PROMPTLY
    assert_ended_once(run, "canceled")
    assert ToolCall.objects.get(run=run).status == outcome
    assert [event["status"] for event in log(run) if event["type"] == "tool.result"] == [outcome]
    assert "tool.progress" not in types(run) and len(room.model.requests) == 1


def test_a_cancel_lets_every_tool_of_a_round_put_right_what_it_has_begun():
    begun, done = [], []

    @tool
    async def careful(number: int) -> None:
        """Wait, and take its time to put things right."""
        begun.append(number)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.1 * number)
            done.append(number)
            raise

    room = make([Turn(calls=[("careful", {"number": 1}), ("careful", {"number": 2})])], [careful])
    run = room.send()
    with driven(run) as worker:
        wait_for(lambda: len(begun) == 2, 20, "both tools to run")
        runs.cancel(run, user=SYSTEM)
        worker.join(20)
    assert done == [1, 2]
    assert_ended_once(run, "canceled")


def test_a_run_whose_call_may_have_happened_is_not_retried():
    SEEN.__init__()  # type: ignore[misc]
    run = make([Turn(calls=[("async_unsafe", {})])], [async_unsafe]).send()
    with driven(run):
        assert SEEN.inside.wait(20)
        runs.cancel(run, user=SYSTEM)
    with pytest.raises(Conflict):
        sending.retry(run, user=SYSTEM)


@pytest.mark.covers("promise:P8")
def test_a_call_that_a_cancel_kept_from_starting_is_in_no_doubt(monkeypatch):
    judge = tools.judge

    def then_cancel(*args: Any) -> Any:
        runs.cancel(run, user=SYSTEM)
        return judge(*args)

    monkeypatch.setattr(tools, "judge", then_cancel)
    run = make([Turn(calls=[("sync_unsafe", {})])], [sync_unsafe]).send()
    drive_as_worker(run)
    assert_ended_once(run, "canceled")
    call = ToolCall.objects.get(run=run)
    assert (call.status, call.tries, call.attempt) == ("canceled", 0, 0)
