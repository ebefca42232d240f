"""A server behind an address: how far a request has come, and that one which fails costs no other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from agentcore.mcp import http
from agentcore.mcp.http import Telling
from agentcore.mcp.sending import SENDING, Sending

pytestmark = pytest.mark.once
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
PASSING = {"jsonrpc": "2.0", "method": "notifications/cancelled"}
GOOD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


@asynccontextmanager
async def answering(answer: bytes | None, seen: list[bytes] | None = None) -> AsyncIterator[str]:
    """A server that reads a request and answers it with these bytes, and hangs up; with None, it never answers."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            read = await reader.read(65536)
            if seen is not None:
                seen.append(read)
            if answer is None:
                await reader.read()
            else:
                writer.write(answer)
                await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
        await server.wait_closed()


async def none() -> dict[str, str]:
    return {}


async def sent(url: str, message: Any = CALL, headers: Callable[[], Any] = none, method: str = "POST") -> Any:
    """How far a message has come, and the answer's status and JSON."""
    sending = Sending()
    SENDING.set(sending)
    async with Telling(headers) as client:
        request = client.build_request(method, url, json=message if method == "POST" else None)
        response = await client.send(request, stream=True, follow_redirects=False)
        try:
            body = await response.aread()
        finally:
            await response.aclose()
    return sending, response.status_code, json.loads(body)


async def test_a_request_whose_server_is_not_there_has_not_begun():
    sending, status, body = await sent("http://127.0.0.1:9/")
    assert not sending.has_begun and sending.status is None
    assert (status, body["error"]["message"]) == (503, "The request failed with ConnectError.")


async def test_a_request_that_broke_off_before_its_answer_has_begun():
    async with answering(b"") as url:
        sending, status, _ = await sent(url)
    assert sending.has_begun and sending.status is None and status == 503


async def test_an_answer_of_the_protocol_is_passed_on_with_its_status():
    async with answering(GOOD) as url:
        sending, status, body = await sent(url)
    assert sending.has_begun and (sending.status, status, body) == (200, 200, {})


@pytest.mark.parametrize("status, kind", [(200, "text/html"), (202, ""), (500, "text/plain"), (401, "text/html")])
async def test_what_is_no_answer_of_the_protocol_is_said_so_with_its_status_noted(status, kind):
    head = f"HTTP/1.1 {status} Whatever\r\ncontent-type: {kind}\r\ncontent-length: 3\r\n\r\nyes"
    async with answering(head.encode()) as url:
        sending, shown, body = await sent(url)
    assert sending.status == status and shown == 503 and "not of the protocol" in body["error"]["message"]


async def test_a_stream_that_is_read_on_says_nothing_of_the_call_that_began_it():
    async with answering(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n") as url:
        sending, status, _ = await sent(url, method="GET")
    assert sending == Sending() and status == 503


async def test_a_message_that_nobody_waits_for_does_not_wait_for_its_server(monkeypatch):
    monkeypatch.setattr(http, "PASSING_SECONDS", 0.1)
    async with answering(None) as url:
        _, status, body = await sent(url, PASSING)
    assert (status, body["error"]["message"]) == (503, "The request failed with TimeoutError.")


async def test_an_answer_without_an_end_is_broken_off(monkeypatch):
    monkeypatch.setattr(http, "LONGEST_MESSAGE", 1000)
    long = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99999\r\n\r\n" + b"1" * 99999
    async with answering(long) as url:
        with pytest.raises(httpx2.StreamError, match="more than 1000 bytes"):
            await sent(url)


async def test_an_answer_that_breaks_off_is_an_error_of_its_own():
    short = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"
    async with answering(short) as url:
        with pytest.raises(httpx2.StreamError, match="broke off"):
            await sent(url)


async def test_headers_are_asked_for_before_each_request():
    keys, seen = iter(("first", "second")), []

    async def headers() -> dict[str, str]:
        return {"authorization": next(keys)}

    async with answering(GOOD, seen) as url:
        await sent(url, headers=headers)
        await sent(url, headers=headers)
    assert b"authorization: first" in seen[0].lower() and b"authorization: second" in seen[1].lower()


async def test_a_function_that_fails_to_give_headers_fails_its_request_before_it_is_sent():
    async def headers() -> dict[str, str]:
        raise LookupError("the vault is locked")

    async with answering(GOOD) as url:
        sending, _, body = await sent(url, headers=headers)
    assert not sending.has_begun and body["error"]["message"] == "The request failed with LookupError."


async def test_a_request_whose_time_is_over_is_not_begun():
    def too_late() -> None:
        raise RuntimeError("the time is over")

    seen: list[bytes] = []
    async with answering(GOOD, seen) as url, Telling(none) as client:
        sending = Sending(on_begin=too_late)
        SENDING.set(sending)
        await client.send(client.build_request("POST", url, json=CALL), stream=True)
    assert not sending.has_begun and b"tools/call" not in b"".join(seen)
