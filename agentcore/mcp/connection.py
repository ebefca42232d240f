"""One session with a server, which all runs of an event loop share.

It belongs to one task, for what the SDK enters must be left by the task that has entered it. The task begins with the
first use, and ends with the loop, with the session, or when nobody has used it for a while; then another is made.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from mcp.client.client import Client
from mcp_types import ListToolsResult, PaginatedRequestParams, ToolListChangedNotification
from mcp_types import Tool as ServerTool
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from ..values.functions import kind_of
from ..values.logextra import log_extra
from .sending import SENDING, Sending
from .servers import Server

logger = logging.getLogger("agentcore.mcp")

T = TypeVar("T")

CONNECT_SECONDS = 30.0
"""How long it may take to start a server, or to reach one, and to agree with it on a version of the protocol."""
LIST_SECONDS = 30.0
IDLE_SECONDS = 300.0
AWAY_SECONDS = 3.0
"""How long a server that could not be reached is taken to be away: all runs that ask for it meanwhile need not wait."""
PARTING_SECONDS = 0.3
"""How long a cancelled call waits for its server to be told; that goes on without it."""
MOST_TOOLS = 256
MOST_PAGES = 64


class ServerAway(Exception):
    """A server could not be reached, or not be asked for its tools; the message is for operators."""


class Connection:
    """A session with one server, on the running event loop."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[Client] = self._loop.create_future()
        self.is_modern = False
        """Whether it speaks a version of the protocol that has no sessions, once it speaks one."""
        self._leaving = asyncio.Event()
        self._asked: set[asyncio.Task[Any]] = set()
        self._last_used = self._loop.time()
        self._tools: tuple[ServerTool, ...] | None = None
        self._listed_at = 0.0
        self._has_changed = True
        self._listing = asyncio.Lock()
        self._does_not_list: ServerAway | None = None
        self._owner = asyncio.create_task(self._own(), name="agentcore-mcp")

    def leave(self) -> None:
        """Have it end once nobody waits for an answer any more; whoever comes from now on makes another one."""
        self._leaving.set()
        shared = _BY_LOOP.get(self._loop, {})
        if shared.get(self.server.identity) is self:
            del shared[self.server.identity]

    async def tools(self, fresh_seconds: float) -> tuple[ServerTool, ...]:
        """Return what the server has, listed at most so many seconds ago; the same object while it is the same.

        Raises `ServerAway`.
        """
        async with self._listing:
            now = self._loop.time()
            if self._does_not_list is not None:  # whoever has waited for the same answer need not ask again
                raise self._does_not_list
            if self._tools is None or self._has_changed or now - self._listed_at > fresh_seconds:
                self._has_changed = False
                found = await self._list()
                if found != self._tools:
                    self._tools = found
                self._listed_at = now
            return self._tools

    async def ask(self, send: Callable[[Client], Awaitable[T]], sending: Sending) -> T:
        """Send a request and return its answer; `sending` says how far it has come, whatever this raises.

        Raises `ServerAway` where there is no session, and what the SDK raises. A cancel is passed on to the server.
        """
        client = await asyncio.shield(self._ready)
        task = asyncio.create_task(_in_context(send, client, sending), name="agentcore-mcp-request")
        self._asked.add(task)
        task.add_done_callback(self._answered)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task], timeout=PARTING_SECONDS)
            raise

    def _answered(self, task: asyncio.Task[Any]) -> None:
        self._asked.discard(task)
        self._last_used = self._loop.time()
        if not task.cancelled():
            task.exception()  # whoever asked may be gone

    async def _list(self) -> tuple[ServerTool, ...]:
        found: list[ServerTool] = []
        cursor: str | None = None
        await asyncio.shield(self._ready)  # which has a time of its own
        try:
            async with asyncio.timeout(LIST_SECONDS):
                for _ in range(MOST_PAGES):
                    page = await self._page(cursor)
                    found += page.tools
                    cursor = page.next_cursor
                    if len(found) > MOST_TOOLS or cursor is None:
                        break
        except Exception as error:
            raise self._cannot_list(f"it did not list its tools: {kind_of(error)}") from error
        if len(found) > MOST_TOOLS or cursor is not None:
            raise self._cannot_list(f"it lists more than {MOST_TOOLS} tools")
        return tuple(found)

    async def _page(self, cursor: str | None) -> ListToolsResult:
        params = PaginatedRequestParams(cursor=cursor)
        return await self.ask(lambda client: client.session.list_tools(params=params), Sending())

    def _cannot_list(self, why: str) -> ServerAway:
        self._does_not_list = ServerAway(why)
        self.leave()  # the session may be over, and nothing else tells
        return self._does_not_list

    async def _own(self) -> None:
        """Enter the session, keep it until it is to be left, and leave it."""
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(CONNECT_SECONDS):
                    streams = self.server.streams(self.leave)
                    made = Client(streams, cache=None, message_handler=self._hear)
                    client = await stack.enter_async_context(made)
                self.is_modern = client.protocol_version in MODERN_PROTOCOL_VERSIONS
                self._ready.set_result(client)
                watching = asyncio.create_task(self._watch(client), name="agentcore-mcp-changes")
                try:
                    await self._until_left()
                finally:
                    watching.cancel()
        except Exception as error:
            self._failed(error)
        else:
            self.leave()
        finally:
            self._ready.cancel()

    def _failed(self, error: Exception) -> None:
        about, label = log_extra("mcp_away"), self.server.label
        if self._ready.done():
            logger.warning("the session with the MCP server %s broke off: %s", label, kind_of(error), extra=about)
            self.leave()
            return
        why = _why(error)
        logger.warning("the MCP server %s could not be reached: %s", label, why, extra=about)
        self._ready.set_exception(ServerAway(why))
        self._ready.exception()  # nobody may be waiting any more
        self._loop.call_later(AWAY_SECONDS, self.leave)

    async def _until_left(self) -> None:
        while not self._leaving.is_set():
            idle = self._loop.time() - self._last_used
            if idle >= IDLE_SECONDS and not self._asked:
                self.leave()
            else:
                try:
                    async with asyncio.timeout(max(IDLE_SECONDS - idle, 1.0)):
                        await self._leaving.wait()
                except TimeoutError:
                    continue
        while self._asked:
            await asyncio.wait(self._asked)

    async def _hear(self, message: Any) -> None:
        if isinstance(message, ToolListChangedNotification):
            self._has_changed = True

    async def _watch(self, client: Client) -> None:
        """Have the server tell of changed tools, where the version of the protocol is one that has to be asked to."""
        tools = client.server_capabilities.tools
        if not self.is_modern or tools is None or not tools.list_changed:
            return
        try:
            async with client.listen(tools_list_changed=True) as changes:
                async for _ in changes:
                    pass  # `_hear` has heard it, too
        except Exception as error:  # without it, they are listed again after a time
            logger.debug("an MCP server tells of no changes: %s", kind_of(error))


async def _in_context(send: Callable[[Client], Awaitable[T]], client: Client, sending: Sending) -> T:
    SENDING.set(sending)  # of this task
    return await send(client)


def _why(error: BaseException) -> str:
    """Return why a server could not be reached, without words of its own."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, TimeoutError):
        return f"it did not answer within {CONNECT_SECONDS:g} seconds"
    return f"{kind_of(error)}: {error.strerror}" if isinstance(error, OSError) and error.strerror else kind_of(error)


_BY_LOOP: dict[asyncio.AbstractEventLoop, dict[Hashable, Connection]] = {}


def connection_to(server: Server) -> Connection:
    """Return the connection that the runs of this event loop share."""
    loop = asyncio.get_running_loop()
    if loop not in _BY_LOOP:
        for other in list(_BY_LOOP):
            if other.is_closed():
                _BY_LOOP.pop(other, None)
    shared = _BY_LOOP.setdefault(loop, {})
    found = shared.get(server.identity)
    if found is None:
        found = shared[server.identity] = Connection(server)
    return found
