"""What makes no sense, on the servers it meets: an answer of 4xx and nothing in the log, with DEBUG on and off."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import AsyncExitStack, suppress
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psutil
import pytest
from django.conf import LazySettings
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from agentcore.realtime import frames
from agentcore.realtime.database import query
from agentcore.streams import log
from tests.integration.sockets import log_in, make_run, make_thread, run_name, say, write
from tests.integration.test_socket_servers import address, serve
from tests.stack import Stack, Web

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]
SERVERS = ["daphne", "demo", "uvicorn"]
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
# Method, path, content type and body; and what is answered.
REQUESTS: list[tuple[str, str, str, bytes, int]] = [
    ("POST", "/agent/approvals/decide", "multipart/form-data; boundary=x", b"--x\r\n", 415),
    ("POST", "/agent/approvals/decide", FORM, b"a=b", 415),
    ("POST", "/agent/approvals/decide", f"{FORM}; charset=hex", b"a=b", 415),
    ("POST", "/agent/approvals/decide", f"{JSON}; charset=hex", b"{}", 415),
    ("POST", "/agent/approvals/decide", f"{JSON}; charset*=utf-8''utf%00", b"{}", 415),
    ("POST", "/agent/approvals/decide", "", b"{}", 415),
    ("POST", "/agent/approvals/decide", JSON, b"\xff", 400),
    ("POST", "/agent/approvals/decide", JSON, b"[" * 100_000, 400),
    ("POST", "/agent/approvals/decide", JSON, b"x" * 1_100_000, 413),
    ("POST", "/agent/approvals/decide", JSON, b"", 422),
    ("PUT", "/agent/approvals/decide", JSON, b"{}", 405),
    ("GET", "/agent/approvals?status=pending", "", b"", 422),
    ("GET", "/agent/approvals?limit=x", "", b"", 422),
    ("GET", "/agent/approvals?limit=%ff%00", "", b"", 422),
    ("GET", "/agent/approvals", f"{JSON}; charset=hex", b"", 415),
    ("GET", "/agent/nope", "", b"", 404),
    ("GET", "/agent/%00", "", b"", 404),
    ("GET", "/agent/%ff%fe", "", b"", 404),
    ("GET", "/agent/threads/x", "", b"", 404),
    ("GET", "/agent/threads/x/runs?limit=1", "", b"", 404),
    ("POST", "/agent/runs/%00/retry", JSON, b"", 404),
    ("POST", f"/cases/{uuid4()}/messages/", f"{FORM}; charset=hex", b"a=b", 415),
    ("POST", f"/cases/{uuid4()}/messages/", "multipart/form-data; boundary=é", b"--x\r\n", 400),
    ("POST", f"/cases/{uuid4()}/messages/", JSON, b"\xff", 404),
    ("POST", f"/cases/{uuid4()}/files/", "multipart/form-data; boundary=x", b"--x\r\n", 404),
    ("GET", "/cases/%00/", "", b"", 404),
]
STATIC = [
    "../x",
    "..%2f..%2fx",
    "%2e%2e/x",
    "%00",
    "a%00.js",
    "x" * 5000,
    "demo",
    "",
    "//etc/passwd",
    "demo/../../x",
    "%ff",
]


def ask(web: Web, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, str, bytes]:
    """One request exactly as written, which no client library would send."""
    host = urlsplit(web.url)
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host.netloc}", "Connection: close", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items() if value]
    with socket.create_connection((host.hostname, host.port), timeout=20) as wire:
        wire.sendall("\r\n".join([*lines, "", ""]).encode("latin1") + body)
        answer = b""
        while chunk := wire.recv(65536):
            answer += chunk
    head, _, rest = answer.partition(b"\r\n\r\n")
    kind = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-type:")), b"")
    return int(head.split()[1]), kind.decode().removeprefix("content-type:").strip(), rest


@pytest.mark.covers("fc:E5", "fc:E6", "fc:E11")
@pytest.mark.parametrize("debug", ["", "1"], ids=["", "debug"])
@pytest.mark.parametrize("server", SERVERS)
def test_what_makes_no_sense_is_answered_with_4xx(server: str, debug: str, stack: Stack, user: Any) -> None:
    web = serve(stack, server, AGENTCORE_TEST_DEBUG=debug)
    token = "a" * 32
    headers = {
        "Cookie": f"supportdemo_session={log_in(user)}; supportdemo_csrf={token}",
        "X-CSRFToken": token,
        "Accept": JSON,
    }
    for method, path, kind, body, expected in REQUESTS:
        status, answered, content = ask(web, method, path, {**headers, "Content-Type": kind}, body)
        what = (method, path, kind, body[:50], status, answered, content[:300])
        assert status == expected, what
        if server == "daphne" and kind.startswith("multipart") and not answered:
            continue  # Twisted reads forms itself, unless the demo starts it, and refuses broken ones unasked
        assert answered == "application/problem+json", what
        problem = json.loads(content)
        assert problem["status"] == status and problem["code"] and problem["id"] and problem["detail"], what
    for name in STATIC:
        status, _, content = ask(web, "GET", f"/static/{name}", headers, b"")
        assert status == 404, (name, status, content[:300])
    assert " ERROR " not in web.text and "500 Internal" not in web.text, web.tail(80)


def given(user: Any, settings: LazySettings) -> tuple[Any, Any, dict[str, str]]:
    """A thread of the user's, a run in it, and the header that says who asks."""
    thread = make_thread(user)
    return thread, make_run(thread), {"Cookie": f"{settings.SESSION_COOKIE_NAME}={log_in(user)}"}


@pytest.mark.covers("fc:E2", "fc:E6", "fc:E7")
@pytest.mark.parametrize("server", SERVERS)
async def test_a_socket_is_closed_with_a_code_and_never_left_dead(
    server: str, stack: Stack, user: Any, settings: LazySettings
) -> None:
    thread, run, cookie = await query(given, user, settings)
    web = await asyncio.to_thread(serve, stack, server, AGENTCORE_TEST_DEBUG="1")
    other_port = f"http://127.0.0.1:{urlsplit(web.url).port + 1}"  # type: ignore[operator]
    refused = [
        *((f"{web.ws_url}/ws/{path}", web.url) for path in ("nope", "agent/threads/x/", "%00", "", "agent/threads//")),
        (address(web, thread), other_port),
        (address(web, thread), web.url.replace("http:", "https:")),
        (address(web, thread), "null"),
    ]
    for uri, origin in refused:
        with pytest.raises(InvalidStatus) as refusal:
            await connect(uri, additional_headers=cookie, origin=origin)  # type: ignore[arg-type]
        assert refusal.value.response.status_code == 403, (uri, origin)
    text = "x" * 3_000_000
    await query(write, run, {"type": "text.delta", "text": text})
    async with await connect(address(web, thread), additional_headers=cookie) as client:
        await client.send('{"type":"attach"}')
        pieces: list[str] = []
        frame: dict[str, Any] = {}
        async with asyncio.timeout(30):
            while frame.get("part", -1) + 1 != frame.get("parts"):
                frame = json.loads(await client.recv())
                if frame.get("type") == "mark":
                    await client.send(json.dumps({"type": "ack", "bytes": frame["bytes"]}))
                if "piece" in frame:
                    pieces.append(frame["piece"])
        assert json.loads("".join(pieces))["text"] == text and frame["stream"] == run_name(run)
        await query(break_stream, run)
        with pytest.raises(ConnectionClosed):
            async with asyncio.timeout(20):
                while True:
                    await client.recv()
        assert client.close_code == frames.CLOSE_FAILED
    told = web.text.count("cannot be followed")
    assert told and web.text.count("Traceback") == told, web.tail(80)


def break_stream(run: Any) -> None:
    """Write what no writer writes: bytes that are no text."""
    from django.db import transaction

    from agentcore.models import Run

    with transaction.atomic():
        Run.objects.filter(pk=run.pk).update(next_seq=2)
        log.write(run.stream_id, 1, [b"\xff"])


WINDOW = 262_144  # SOCKET_WINDOW, as it is without a word in the settings
PIECE = 100_000
SOCKETS = 20


def resident(web: Web) -> int:
    """The memory that a web process and its children have now."""
    main = psutil.Process(web.pid)
    return sum(int(process.memory_info().rss) for process in (main, *main.children(recursive=True)))


@pytest.mark.longer
@pytest.mark.covers("fc:E4")
@pytest.mark.parametrize("server", SERVERS)
async def test_clients_that_read_nothing_cost_a_server_no_more_than_their_windows(
    server: str, stack: Stack, user: Any, settings: LazySettings
) -> None:
    thread, run, cookie = await query(given, user, settings)
    for _ in range(10):
        await query(say, run, *["x" * PIECE] * 30)
    limits = json.dumps({"SOCKETS_PER_USER": SOCKETS + 1, "ACK_SECONDS": 120})
    web = await asyncio.to_thread(serve, stack, server, AGENTCORE_TEST_SETTINGS=limits)
    attach = json.dumps({"type": "attach", "cursors": {run_name(run): -1}})
    async with AsyncExitStack() as opened:

        async def connection(**options: Any) -> Any:
            return await opened.enter_async_context(
                connect(
                    address(web, thread), additional_headers=cookie, ping_interval=None, close_timeout=0.1, **options
                )
            )

        reader = await connection(max_queue=None)
        await reader.send(attach)
        size = 0
        with suppress(TimeoutError):
            while True:
                size += len(await asyncio.wait_for(reader.recv(), 6))
        assert WINDOW <= size < WINDOW + 2 * PIECE
        before = await asyncio.to_thread(resident, web)
        for _ in range(SOCKETS):
            deaf = await connection(max_queue=1)
            for _ in range(3):  # from the beginning each time
                await deaf.send(attach)
        with pytest.raises(ConnectionClosed):  # and there is no seat for one more
            one_more = await connection()
            async with asyncio.timeout(20):
                while True:
                    await one_more.recv()
        assert one_more.close_code == frames.CLOSE_FLOOD
        await asyncio.sleep(3)
        grown = await asyncio.to_thread(resident, web) - before
        assert grown < SOCKETS * 3 * WINDOW + 20_000_000, f"{grown:,} bytes"
