"""HTTP clients: a connection belongs to an event loop, and a model is asked from many, one after the other or at once.

A model keeps one client, which holds no connection. Behind it is a client for each
loop, made when the loop first asks, closed when the loop ends. So nothing is carried
through a fork, connections are used again within a loop, and none outlives it.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache

import httpx2
from pydantic_ai.models import Model, create_async_httpx2_client
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.wrapper import WrapperModel

__all__ = ["Line", "line", "models_in", "separate"]

CONNECTIONS = httpx2.Limits(max_connections=1000, max_keepalive_connections=100)
MOST_SHOWN = 1000
LAST_WORD = b"[DONE]"
PATIENCE = 0.05
"""Seconds that the end of an answer may take behind its last word."""


class Line:
    """What is noticed of the connection of one call: that something comes, and answers that are no stream."""

    def __init__(self) -> None:
        self.heard = asyncio.Event()
        self.status = 0
        self.media_type = ""
        self.said = b""
        self._responses: list[httpx2.Response] = []

    def answered(self, response: httpx2.Response) -> None:
        """Note what kind of answer begins."""
        self._responses.append(response)
        self.status = response.status_code
        self.media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        self.said = b""

    def came(self, data: bytes) -> None:
        """Note that something has come, be it a comment; of what is no stream of events, also what it was."""
        self.heard.set()
        if self.media_type != "text/event-stream" and len(self.said) < MOST_SHOWN:
            self.said += data[:MOST_SHOWN]

    async def hang_up(self) -> None:
        """Close what is open still: not every SDK does where its reader is cancelled."""
        while self._responses:
            with suppress(Exception):  # one that cannot be closed keeps no other one open
                await self._responses.pop().aclose()


line: ContextVar[Line | None] = ContextVar("agentcore_model_line", default=None)
"""The line of the call that this task makes."""


@dataclass
class _Kept:
    client: httpx2.AsyncClient
    keeper: AsyncGenerator[None]


_clients: dict[asyncio.AbstractEventLoop, _Kept] = {}
os.register_at_fork(after_in_child=_clients.clear)  # their connections are the parent's


class ByLoop(httpx2.AsyncBaseTransport):
    """Sends a request by the client of the running loop."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request, and return its answer while it still comes in; follows no redirect."""
        client = await _of_this_loop()
        response = await client.send(request, stream=True, auth=None, follow_redirects=False)
        on = line.get()
        if on is not None:
            on.answered(response)
        return httpx2.Response(
            response.status_code,
            headers=response.headers,
            stream=_Incoming(response, on),
            extensions=response.extensions,
        )


class _Incoming(httpx2.AsyncByteStream):
    def __init__(self, response: httpx2.Response, on: Line | None) -> None:
        self._response = response
        self._pieces = response.aiter_raw()
        self._on = on
        self._last = b""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for data in self._pieces:
            if self._on is not None:
                self._on.came(data)
            self._last = data
            yield data

    async def aclose(self) -> None:
        """Close the answer; one that has come to its last word is read to its end, so that its connection is kept."""
        if self._last.rstrip().endswith(LAST_WORD):
            with suppress(TimeoutError, httpx2.HTTPError, httpx2.StreamError):
                async with asyncio.timeout(PATIENCE):
                    async for _ in self._pieces:
                        pass
        await self._response.aclose()


async def _of_this_loop() -> httpx2.AsyncClient:
    loop = asyncio.get_running_loop()
    kept = _clients.get(loop)
    if kept is None:
        for other in [other for other in list(_clients) if other.is_closed()]:
            _clients.pop(other, None)
        client = httpx2.AsyncClient(verify=_trust(), limits=CONNECTIONS)
        kept = _clients[loop] = _Kept(client, _until_the_loop_ends(loop, client))
        await anext(kept.keeper)
    return kept.client


@cache
def _trust() -> ssl.SSLContext:
    """Return whom to trust, for the clients of all loops: it takes a tenth of a second to load."""
    return httpx2.create_ssl_context()


async def _until_the_loop_ends(loop: asyncio.AbstractEventLoop, client: httpx2.AsyncClient) -> AsyncGenerator[None]:
    """Close the client when the loop shuts down its asynchronous generators, which is the last thing that it does."""
    try:
        yield
    finally:
        _clients.pop(loop, None)
        await client.aclose()


def separate(model: Model) -> None:
    """Give a model a client of every loop's own, in the place of one that its provider made for itself.

    A client that the application gave stays as it is: it is the application's, and belongs to one loop.
    """
    _trust()  # while nobody waits, and before a fork
    for one in models_in(model):
        provider = one.provider
        # No public interface replaces a client: pydantic-ai itself does it so between two of its runs.
        made = getattr(provider, "_own_http_client", None)
        if provider is None or not isinstance(made, httpx2.AsyncClient) or isinstance(made._transport, ByLoop):
            continue
        client = create_async_httpx2_client(timeout=made.timeout, transport=ByLoop())
        provider._set_http_client(client)
        provider._own_http_client = client
        provider._http_client_factory = None


def models_in(model: Model) -> Iterator[Model]:
    """Yield a model, or those that it is made of."""
    if isinstance(model, FallbackModel):
        for one in model.models:
            yield from models_in(one)
    elif isinstance(model, WrapperModel):
        yield from models_in(model.wrapped)
    else:
        yield model
