"""The thread socket refuses what makes no sense or is too much, and says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from channels.routing import URLRouter

from agentcore.models import Run, Thread
from agentcore.realtime import consumers, followers, frames
from agentcore.realtime.database import query
from agentcore.routing import websocket_urlpatterns
from agentcore.streams.hub import Hub
from tests.integration.live import eventually
from tests.integration.sockets import (
    Client,
    finish,
    make_run,
    positions,
    run_name,
    say,
    write,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.covers("dj:WS-9")
async def test_the_third_bad_frame_closes(thread: Thread, session: str) -> None:
    async with Client(thread.pk, session) as client:
        await client.send("{")
        assert (await client.receive())["code"] == "bad_frame"
        await client.attach()
        await client.socket.send_to(bytes_data=b"\x00")
        assert (await client.frame("error"))["code"] == "bad_frame"
        await client.send({"type": "websocket.disconnect", "code": 1000})
        assert (await client.frame("error"))["code"] == "bad_frame"
        assert await client.closed() == frames.CLOSE_BAD_FRAMES


@pytest.mark.covers("dj:WS-9")
async def test_a_large_frame_closes(thread: Thread, session: str) -> None:
    async with Client(thread.pk, session) as client:
        await client.send(" " * (frames.MAX_FRAME_BYTES + 1))
        assert await client.closed() == frames.CLOSE_BAD_FRAMES


@pytest.mark.covers("fault:S7", "dj:WS-9")
async def test_a_flood_of_good_frames_closes(thread: Thread, session: str) -> None:
    async with Client(thread.pk, session) as client:
        for _ in range(consumers.FLOOD_FRAMES + 1):
            await client.send({"type": "attach"})
        assert await client.closed() == frames.CLOSE_FLOOD


@pytest.mark.covers("fault:S7")
async def test_a_run_there_is_no_room_for_is_named_and_followed_when_there_is(
    thread: Thread, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followers, "MAX_FOLLOWED", 2)  # the thread and one run
    first, second = await query(make_run, thread), await query(make_run, thread)
    await query(say, second, "Hello")
    async with Client(thread.pk, session) as client:
        await client.attach()
        refusal = await client.frame("error")
        assert refusal["code"] == "too_many"
        [followed] = {run_name(first), run_name(second)} - {refusal["stream"]}
        assert followed == run_name(second) and refusal["stream"] in refusal["message"]
        assert positions(await client.events(followed, 1)) == [0]
        await query(finish, second)
        assert (await client.events(followed, 1))[0]["event"]["type"] == "done"
        await query(say, first, "there", "you", "are")
        await eventually(lambda: Hub.current().watched() == [thread.stream_id])
        await client.attach()
        assert positions(await client.events(run_name(first), 3)) == [0, 1, 2]


@pytest.mark.covers("fault:S7")
async def test_a_run_that_appears_when_there_is_no_room_is_named_too(
    thread: Thread, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followers, "MAX_FOLLOWED", 1)
    async with Client(thread.pk, session) as client:
        await client.attach()
        run = await query(make_run, thread)
        refusal = await client.frame("error")
        assert (refusal["code"], refusal["stream"]) == ("too_many", run_name(run))


async def test_a_client_that_does_not_read_is_sent_away(
    thread: Thread, users: tuple[Any, Any], every: Callable[..., None]
) -> None:
    every(ack=0.2)
    run = await query(make_run, thread)
    await query(say, run, *"abc")
    sent: list[dict[str, Any]] = []
    inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def stuck_send(message: dict[str, Any]) -> None:
        sent.append(message)
        if '"event"' in message.get("text", ""):
            await asyncio.Event().wait()

    scope = {"type": "websocket", "path": f"/ws/agent/threads/{thread.pk}/", "headers": [], "user": users[0]}
    socket = asyncio.create_task(URLRouter(websocket_urlpatterns)(scope, inbox.get, stuck_send))
    await inbox.put({"type": "websocket.connect"})
    await inbox.put({"type": "websocket.receive", "text": '{"type":"attach"}'})
    await eventually(lambda: [item.get("code") for item in sent[-1:]] == [frames.CLOSE_SLOW])
    await eventually(lambda: Hub.current().watched() == [])
    await inbox.put({"type": "websocket.disconnect", "code": 1006})
    await socket


async def test_a_stream_that_cannot_be_followed_closes_the_socket(
    thread: Thread, session: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = await query(make_run, thread)
    await query(write, run, {"type": "text.delta", "text": "ok"})
    async with Client(thread.pk, session) as client:
        await client.attach()
        await client.events(run_name(run), 1)
        await query(Run.objects.filter(pk=run.pk).update, next_seq=5)
        from agentcore.streams import log

        def broken() -> None:
            from django.db import transaction

            with transaction.atomic():
                log.write(run.stream_id, 1, [b"\xff"])

        await query(broken)
        assert await client.closed() == frames.CLOSE_FAILED
    assert "cannot be followed" in caplog.text
