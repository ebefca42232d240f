"""The connection is the run's: it closes with the stream, is used again within a loop, and outlives none."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing

import httpx2
import pytest

from agentcore.providers import StepFinished, TextDelta, UsageReported
from agentcore.providers.pydantic_ai import clients, live
from tests.integration.adapter.scene import EVERY_WIRE, NAMES, chosen, events_of, model_at, request, said
from tests.integration.live import eventually
from tests.wires import WIRES, Wire, oddities, replies

pytestmark = [pytest.mark.once, pytest.mark.longer]
every_wire = pytest.mark.parametrize("wire", EVERY_WIRE, ids=NAMES)


@every_wire
async def test_closing_the_stream_hangs_up(wire: Wire) -> None:
    with wire.serve(replies.stays(wire.says("Good ", "day."), 4)) as server:
        events = model_at(wire, server).stream(request())
        await anext(events)
        await events.aclose()
        assert await asyncio.to_thread(server.hung_up.wait, 5)


@every_wire
async def test_cancelling_whoever_waits_hangs_up(wire: Wire) -> None:
    with wire.serve(replies.stays(wire.says("Good ", "day."), 0)) as server:
        model = model_at(wire, server)
        reader = asyncio.ensure_future(events_of(model))
        await eventually(lambda: server.requests)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert await asyncio.to_thread(server.hung_up.wait, 5)


async def test_a_stream_may_be_closed_by_another_task_than_the_one_that_read_it() -> None:
    wire = WIRES["chat"]
    with wire.serve(replies.stays(wire.says("Good ", "day."), 2)) as server:
        events = model_at(wire, server).stream(request())
        await asyncio.create_task(anext(events))  # type: ignore[arg-type]
        await asyncio.create_task(events.aclose())
        assert await asyncio.to_thread(server.hung_up.wait, 5)


@every_wire
async def test_a_server_that_keeps_its_answer_open_does_not_keep_the_run(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentcore.providers.pydantic_ai.adapter.AFTER_THE_END", 0.2)
    with wire.serve(replies.stays(wire.says("Good ", "day."), 99)) as server:
        events = await events_of(model_at(wire, server))
    assert (said(events), chosen(events, StepFinished)[-1].reason) == ("Good day.", "stop")


class _Stuck(httpx2.AsyncByteStream):
    """A body that notes when it is closed, and may refuse to be."""

    def __init__(self, closed: list[str], refuses: bool) -> None:
        self._closed, self._refuses = closed, refuses

    async def aclose(self) -> None:
        self._closed.append("refused" if self._refuses else "closed")
        if self._refuses:
            raise OSError("it is gone")


async def test_a_connection_that_cannot_be_closed_keeps_no_other_one_open() -> None:
    on, closed = clients.Line(), list[str]()
    for refuses in (False, True):
        on.answered(httpx2.Response(200, stream=_Stuck(closed, refuses)))
    await on.hang_up()
    assert closed == ["refused", "closed"]


async def test_a_task_that_is_slow_to_close_is_kept_until_it_ends_and_told_of(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "CLOSING", 0.01)
    gate, asked = asyncio.Event(), request()

    async def items() -> AsyncGenerator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            await gate.wait()

    reader = live.in_a_task(items(), clients.Line(), asked)
    assert await anext(reader) == 1
    await reader.aclose()
    assert len(live._tasks) == 1
    (logged,) = [record for record in caplog.records if getattr(record, "action", "") == "connection_stays_open"]
    assert (logged.run_id, logged.attempt) == (str(asked.run_id), 1)  # type: ignore[attr-defined]
    gate.set()
    await eventually(lambda: not live._tasks)


async def test_a_stream_that_breaks_after_its_end_is_told_of_with_its_run(caplog: pytest.LogCaptureFixture) -> None:
    wire, asked = WIRES["chat"], request()
    with wire.serve(oddities.ANSWERS["broken off after the reason"]) as server:
        assert [event async for event in model_at(wire, server).stream(asked)]
    found = [record for record in caplog.records if getattr(record, "action", "") == "stream_broke_late"]
    assert found
    assert {(record.run_id, record.attempt) for record in found} == {(str(asked.run_id), 1)}  # type: ignore[attr-defined]


def _clients_in_a_fork() -> int:
    child = os.fork()
    if child == 0:
        os._exit(len(clients._clients))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


@pytest.mark.filterwarnings("ignore:.*fork")
async def test_a_fork_has_no_client_of_its_parent() -> None:
    await clients._of_this_loop()
    assert clients._clients
    assert _clients_in_a_fork() == 0


async def test_comments_that_keep_a_connection_alive_show_that_the_call_lives() -> None:
    wire = WIRES["chat"]
    with wire.serve(oddities.keeps_alive(4, 0.2)) as server:
        events = await events_of(model_at(wire, server))
    before_the_text = events[: events.index(TextDelta("Good day."))]
    assert len(chosen(before_the_text, UsageReported)) >= 4


async def test_a_long_call_shows_that_it_lives_while_its_arguments_come() -> None:
    from agentcore.testing.faults.http_model import Pause, Reply
    from tests.wires import FunctionCall

    wire = WIRES["chat"]
    frames = list(wire.asks(FunctionCall("look", {"n": 1})).pieces)
    slow = Reply([piece for frame in frames for piece in (frame, Pause(0.15))])
    with wire.serve(slow) as server:
        events = await events_of(model_at(wire, server))
    assert len(chosen(events, UsageReported)) >= len(frames) - 2


def test_one_model_answers_in_one_loop_after_the_other_and_leaves_nothing_behind() -> None:
    wire = WIRES["chat"]
    with wire.serve(*[wire.says("Good day.")] * 3) as server:
        model = model_at(wire, server)
        for _ in range(3):
            assert said(asyncio.run(events_of(model))) == "Good day."
            assert not clients._clients
    gc.collect()


def test_one_model_answers_in_two_loops_at_once() -> None:
    wire = WIRES["chat"]
    with wire.serve(*[wire.says("Good day.")] * 8) as server:
        model = model_at(wire, server)

        async def both() -> list[str]:
            loops = [asyncio.to_thread(asyncio.run, events_of(model)) for _ in range(4)]
            return [said(events) for events in await asyncio.gather(*loops)]

        assert asyncio.run(both()) == ["Good day."] * 4


@every_wire
async def test_a_connection_is_used_again_within_a_loop(wire: Wire) -> None:
    with wire.serve(*[wire.says("Good day.")] * 3) as server:
        model = model_at(wire, server)
        for _ in range(3):
            await events_of(model)
        pool = clients._clients[asyncio.get_running_loop()].client._transport._pool  # type: ignore[attr-defined]
        (kept,) = pool.connections
        assert kept.info().endswith("IDLE, Request Count: 3")


async def test_text_goes_out_as_soon_as_it_is_said() -> None:
    wire = WIRES["chat"]
    with wire.serve(replies.stays(wire.says("Good ", "day."), 3)) as server:
        async with aclosing(model_at(wire, server).stream(request())) as events:
            texts = []
            async for event in events:
                if isinstance(event, TextDelta):
                    texts.append(event.text)
                if len(texts) == 2:
                    break
    assert texts == ["Good ", "day."]
