"""A server behind an address: the SDK's streamable HTTP, with a client that tells how far each request has come.

The SDK gives up the whole session, with the calls of all other runs, where one request cannot be sent. So what fails
below HTTP is given to it as an answer to that one request.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CONNECTION_CLOSED

from ..values.functions import kind_of
from .sending import SENDING, Sending
from .stdio import LONGEST_MESSAGE

CONNECT_SECONDS = 10.0
PASSING_SECONDS = 2.0
"""How long a message may take that nobody waits for: a cancel, or the end of the session."""

STREAM = "text/event-stream"
KINDS = ("application/json", STREAM)

Headers = Callable[[], Awaitable[Mapping[str, str]]]

for _name in ("httpx2", "mcp"):  # at INFO they name the address, which may hold a key, and the session's id
    if logging.getLogger(_name).level == logging.NOTSET:
        logging.getLogger(_name).setLevel(logging.WARNING)


@asynccontextmanager
async def over_http(url: str, headers: Headers) -> AsyncIterator[tuple[Any, Any]]:
    """Give the streams of a session with a server; `headers` are asked for before each request."""
    async with (
        Telling(headers) as client,
        streamable_http_client(url, http_client=client, max_sse_event_size=LONGEST_MESSAGE) as streams,
    ):
        yield streams


class Telling(httpx2.AsyncClient):
    """A client that notes in `SENDING` how far a request has come, and answers itself where it could not be sent."""

    def __init__(self, headers: Headers) -> None:
        # How long an answer may take is for whoever waits for it to say.
        patience = httpx2.Timeout(CONNECT_SECONDS, read=None, write=30.0)
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=20)
        super().__init__(timeout=patience, limits=limits, headers={"accept-encoding": "identity"})
        self._more = headers

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request as a stream; an error on the way is an answer of status 503, to this request alone."""
        # A stream that is read on after it broke is another request, which tells nothing of this one.
        sending = (SENDING.get() if _is_call(request) else None) or Sending()
        sending.status = None
        request.extensions = {**request.extensions, "trace": _noting(sending)}
        try:
            request.headers.update(await self._more())
            async with asyncio.timeout(None if _waits(request) else PASSING_SECONDS):
                response = await super().send(request, **options)
        except Exception as error:
            return _answer(request, f"The request failed with {kind_of(error)}.")
        sending.status = response.status_code
        kind = response.headers.get("content-type", "").lower().partition(";")[0].strip()
        is_foreign = kind not in KINDS and not response.has_redirect_location
        if "content-encoding" in response.headers or (is_foreign and _waits(request)):
            await response.aclose()
            return _answer(request, f"The answer, of status {response.status_code}, is not of the protocol.")
        if kind != STREAM:
            response.stream = Bounded(response.stream)
        return response


class Bounded(httpx2.AsyncByteStream):
    """The bytes of an answer, up to a limit; what breaks it off is an error of this answer, and of nothing else."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Give the bytes as they come; raises `StreamError`, which the SDK takes for an answer that it cannot read."""
        left = LONGEST_MESSAGE
        try:
            async for data in self._stream:
                left -= len(data)
                if left < 0:
                    raise httpx2.StreamError(f"The answer has more than {LONGEST_MESSAGE} bytes.")
                yield data
        except httpx2.TransportError as error:
            raise httpx2.StreamError(f"The answer broke off with {kind_of(error)}.") from error

    async def aclose(self) -> None:
        """Close what it reads."""
        await self._stream.aclose()


def _noting(sending: Sending) -> Callable[[str, Mapping[str, Any]], Awaitable[None]]:
    """Return what the connection calls at each stage of a request."""

    async def note(stage: str, about: Mapping[str, Any]) -> None:
        # Without its body, the request is none that a server could act on.
        if stage.endswith(".send_request_body.started"):
            sending.begin()

    return note


def _is_call(request: httpx2.Request) -> bool:
    """Whether it is a request of the protocol's, which is answered, and no message in passing."""
    return request.method == "POST" and "id" in json.loads(request.content)


def _waits(request: httpx2.Request) -> bool:
    """Whether somebody waits for the answer: of a call, or of a stream."""
    return request.method == "GET" or _is_call(request)


def _answer(request: httpx2.Request, said: str) -> httpx2.Response:
    """Return an answer to one request of the protocol's: the SDK puts the request's own id into it."""
    error = {"jsonrpc": "2.0", "id": None, "error": {"code": CONNECTION_CLOSED, "message": said}}
    return httpx2.Response(503, json=error, request=request)
