"""A proxy that stands before a server and fails as networks do, when a test says so.

Put one before PostgreSQL, Redis, a model or the web server, and give whoever is
under test `proxy.url` in place of the server's. One fault is in force at a time;
it holds for open connections too, and for new ones until `ok()`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit, urlunsplit

__all__ = ["FaultProxy"]

CHUNK = 65_536
START_SECONDS = 10.0
DEFAULT_PORTS = {"postgresql": 5432, "postgres": 5432, "redis": 6379, "http": 80, "ws": 80}
# As PostgreSQL's protocol ends the text of a statement.
BEGIN, COMMIT, ROLLBACK = b"BEGIN\0", b"COMMIT\0", b"ROLLBACK\0"
ALONE = (b'"lease_seconds":', b'"seen_number":')
"""What statements are given that commit by themselves outside of a transaction: the journal's, and that of a send."""
LONGEST = max(map(len, ALONE))


class _Kind(StrEnum):
    OK = "ok"
    DELAY = "delay"
    BLACKHOLE = "blackhole"
    RESET = "reset"
    CUT_ON_COMMIT = "cut_on_commit"
    CUT_BEFORE_COMMIT = "cut_before_commit"
    CUT_AFTER = "cut_after"
    HALF_CLOSE = "half_close"


@dataclass
class _Fault:
    """What is wrong now; `times` counts down to all being well again, where it is given."""

    kind: _Kind = _Kind.OK
    seconds: float = 0.0
    size: int = 0
    times: int | None = None


class _Link:
    """One connection through the proxy: two streams, and how far it has come."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.client = client
        self.server: asyncio.StreamWriter | None = None
        self.sent = 0
        self.cutting = False
        self.deaf = False
        self.in_transaction = False

    def commits(self, before: bytes, data: bytes) -> bool:
        """Whether what the client sends, after the end of what it has sent before, commits a transaction."""

        def ends(words: bytes) -> bool:
            return words in before[1 - len(words) :] + data

        self.in_transaction = self.in_transaction or ends(BEGIN)
        found = ends(COMMIT) or (not self.in_transaction and any(map(ends, ALONE)))
        if ends(COMMIT) or ends(ROLLBACK):
            self.in_transaction = False
        return found

    def abort(self) -> None:
        """End both sides with a reset, which discards what is under way."""
        for writer in (self.client, self.server):
            if writer is not None:
                sock = writer.get_extra_info("socket")
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()

    def close(self) -> None:
        """End both sides after what was written."""
        for writer in (self.client, self.server):
            if writer is not None:
                writer.close()


class FaultProxy:
    """Listens on a free port of 127.0.0.1, in a thread of its own, for as long as the `with` block lasts."""

    def __init__(self, url: str) -> None:
        """Stand before the server of a URL; PostgreSQL's may name a socket directory as `?host=/path`."""
        self._parts = urlsplit(url)
        directory = parse_qs(self._parts.query).get("host", [""])[0]
        port = self._parts.port or DEFAULT_PORTS.get(self._parts.scheme, 0)
        self._socket_path = f"{directory}/.s.PGSQL.{port}" if directory.startswith("/") else ""
        self._address = (self._parts.hostname or "127.0.0.1", port)
        self._fault = _Fault()
        self._links: set[_Link] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._changed: asyncio.Event
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="fault-proxy", daemon=True)
        self.port = 0
        self.connections = 0
        self.cuts = 0

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(START_SECONDS):
            raise RuntimeError("the fault proxy did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_SECONDS)

    @property
    def url(self) -> str:
        """The server's URL with the proxy's address in it."""
        user = self._parts.netloc.rpartition("@")[0]
        place = f"{user}@127.0.0.1:{self.port}" if user else f"127.0.0.1:{self.port}"
        query = "" if self._socket_path else self._parts.query
        return urlunsplit((self._parts.scheme, place, self._parts.path, query, ""))

    @property
    def open(self) -> int:
        """How many connections are open now."""
        return len(self._links)

    def ok(self) -> None:
        """Let everything through, what was held back first."""
        self._set(_Fault())

    def delay(self, seconds: float) -> None:
        """Hold back every piece for so long, both ways."""
        self._set(_Fault(_Kind.DELAY, seconds=seconds))

    def blackhole(self) -> None:
        """Accept everything and pass nothing on, until another fault is set: a partition that may heal."""
        self._set(_Fault(_Kind.BLACKHOLE))

    def reset(self) -> None:
        """Reset every open connection, and each new one."""
        self._set(_Fault(_Kind.RESET))

    def cut_on_commit(self, times: int | None = None) -> None:
        """PostgreSQL: let COMMIT through and cut the connection in place of the answer."""
        self._set(_Fault(_Kind.CUT_ON_COMMIT, times=times))

    def cut_before_commit(self, times: int | None = None) -> None:
        """PostgreSQL: cut the connection in place of passing COMMIT on, so that nothing is committed."""
        self._set(_Fault(_Kind.CUT_BEFORE_COMMIT, times=times))

    def cut_after(self, size: int, times: int | None = None) -> None:
        """Close a connection when so many bytes have come from the server since it was opened."""
        self._set(_Fault(_Kind.CUT_AFTER, size=size, times=times))

    def half_close(self) -> None:
        """End what the server sends, and go on passing to it what the client sends."""
        self._set(_Fault(_Kind.HALF_CLOSE))

    def _set(self, fault: _Fault) -> None:
        done = threading.Event()
        self._loop.call_soon_threadsafe(self._switch, fault, done.set)
        if not done.wait(START_SECONDS):
            raise RuntimeError("the fault proxy does not answer")

    def _switch(self, fault: _Fault, done: Callable[[], None]) -> None:
        self._fault = fault
        self._changed.set()
        self._changed = asyncio.Event()
        for link in list(self._links):
            if fault.kind is _Kind.RESET:
                self._cut(link.abort)
            if fault.kind is _Kind.HALF_CLOSE:
                self._deafen(link)
        done()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop, self._changed = asyncio.Event(), asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        self._switch(_Fault(), lambda: None)  # whoever is held is let go
        for link in list(self._links):
            link.abort()
        if self._serving:  # a task that is cancelled with the loop would be complained about
            await asyncio.wait(self._serving, timeout=1)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        link = _Link(writer)
        self._links.add(link)
        try:
            if self._fault.kind is _Kind.RESET:
                self._cut(link.abort)
                return
            await self._connect(link, reader)
        except OSError:
            link.abort()  # the server is not there, or either side went away
        finally:
            link.close()
            self._links.discard(link)

    async def _connect(self, link: _Link, reader: asyncio.StreamReader) -> None:
        if self._socket_path:
            upstream, link.server = await asyncio.open_unix_connection(self._socket_path)
        else:
            upstream, link.server = await asyncio.open_connection(*self._address)
        if self._fault.kind is _Kind.HALF_CLOSE:
            self._deafen(link)
        ways = [
            asyncio.create_task(self._to_server(link, reader)),
            asyncio.create_task(self._to_client(link, upstream)),
        ]
        try:
            await asyncio.gather(*ways)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _to_server(self, link: _Link, reader: asyncio.StreamReader) -> None:
        assert link.server is not None
        before = b""
        while data := await reader.read(CHUNK):
            await self._hold()
            if link.commits(before, data):
                if self._takes(_Kind.CUT_BEFORE_COMMIT):
                    self._cut(link.abort)
                    return
                link.cutting = self._takes(_Kind.CUT_ON_COMMIT)
            before = data[-LONGEST + 1 :]
            link.server.write(data)
            await link.server.drain()
        link.server.write_eof()

    async def _to_client(self, link: _Link, upstream: asyncio.StreamReader) -> None:
        while data := await upstream.read(CHUNK):
            await self._hold()
            if link.cutting:
                self._cut(link.abort)
                return
            left = self._fault.size - link.sent
            if left <= len(data) and self._takes(_Kind.CUT_AFTER):
                link.client.write(data[: max(left, 0)])
                self._cut(link.close)
                return
            link.sent += len(data)
            if not link.deaf:
                link.client.write(data)
                await link.client.drain()
        if not link.deaf:
            link.client.write_eof()

    async def _hold(self) -> None:
        """Wait as the fault in force asks for."""
        if self._fault.kind is _Kind.DELAY:
            await asyncio.sleep(self._fault.seconds)
        while self._fault.kind is _Kind.BLACKHOLE:
            await self._changed.wait()

    def _takes(self, kind: _Kind) -> bool:
        """Return whether this fault strikes now, and count it."""
        if self._fault.kind is not kind:
            return False
        if self._fault.times is not None:
            self._fault.times -= 1
            if self._fault.times <= 0:
                self._fault = _Fault()
        return True

    def _cut(self, end: Callable[[], None]) -> None:
        self.cuts += 1
        end()

    def _deafen(self, link: _Link) -> None:
        if not link.deaf:
            link.deaf = True
            with contextlib.suppress(OSError):
                link.client.write_eof()
