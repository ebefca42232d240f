"""The thread socket on the servers it is meant for, over real connections."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import pytest
from django.conf import LazySettings
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from agentcore.realtime.database import query
from supportdemo.servers import free_port
from supportdemo.stack import web_command
from tests.integration.sockets import NOT_FOUND, finish, log_in, make_run, make_thread, say
from tests.stack import Stack, Web, _answers, wait_for

pytestmark = pytest.mark.django_db(transaction=True)


def serve(stack: Stack, server: str, **env: str) -> Web:
    """A web process of the kind, once it answers; `demo` is the one that the demo starts."""
    if server == "daphne":
        return stack.web(**env)
    port = free_port()
    uvicorn = ["uvicorn", "--host", "127.0.0.1", "--port", str(port), "--lifespan", "off", "tests.asgi:application"]
    command = web_command("127.0.0.1", port) if server == "demo" else [sys.executable, "-m", *uvicorn]
    process: Web = stack.start(server, command, kind=Web, **env)
    process.url = f"http://127.0.0.1:{port}"
    wait_for(lambda: _answers(process.url), 30, f"{server}'s first answer")
    return process


def address(web: Web, thread: Any) -> str:
    return f"{web.ws_url}/ws/agent/threads/{thread.pk}/"


async def receive(socket: ClientConnection) -> dict[str, Any]:
    """The next frame but marks, which are acknowledged."""
    while True:
        frame: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), 10))
        if frame.get("type") != "mark":
            return frame
        await socket.send(json.dumps({"type": "ack", "bytes": frame["bytes"]}))


@pytest.mark.covers("dj:WS-3", "dj:WS-4", "dj:WS-5", "dj:WS-7", "dj:ASY-8", "fault:S9")
@pytest.mark.parametrize("server", ["daphne", "demo", "uvicorn"])
async def test_a_browser_follows_a_run_over_a_real_server(
    server: str, stack: Stack, user: Any, settings: LazySettings
) -> None:
    thread = await query(make_thread, user)
    cookie = {"Cookie": f"{settings.SESSION_COOKIE_NAME}={await query(log_in, user)}"}
    web = await asyncio.to_thread(serve, stack, server)

    async def open_socket(headers: dict[str, str], origin: str | None = None) -> ClientConnection:
        return await connect(address(web, thread), additional_headers=headers, origin=origin or web.url)  # type: ignore[arg-type]

    for headers in ({}, {"Cookie": f"{settings.SESSION_COOKIE_NAME}=rubbish"}):
        with pytest.raises(InvalidStatus) as refusal:
            await open_socket(headers)
        assert refusal.value.response.status_code == 403
    async with await open_socket(cookie) as socket:
        await socket.send('{"type":"attach"}')
        assert (await receive(socket))["type"] == "attached"
        run = await query(make_run, thread)
        await query(say, run, "Hello")
        await query(finish, run)
        events = [await receive(socket) for _ in range(4)]
        assert [frame["seq"] for frame in events if frame["stream"] == f"run:{run.pk}"] == [0, 1]
        await query(thread.__class__.objects.filter(pk=thread.pk).update, owner=None)
        await socket.send('{"type":"attach"}')
        with pytest.raises(ConnectionClosed):
            await receive(socket)
        assert socket.close_code == NOT_FOUND
    await query(thread.__class__.objects.filter(pk=thread.pk).update, owner=user)
    sockets = [await open_socket(cookie) for _ in range(5)]
    for socket in sockets:
        await socket.send('{"type":"attach"}')
        await receive(socket)
    await asyncio.to_thread(web.sigterm, 10)
    for socket in sockets:
        with pytest.raises(ConnectionClosed):
            while True:
                await receive(socket)
