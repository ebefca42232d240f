"""The websocket of a thread: its own events, and those of its runs, from the client's cursors on."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any
from uuid import UUID

from channels.consumer import get_handler_name
from channels.generic.websocket import AsyncWebsocketConsumer

from ..conf import get_settings
from . import frames
from .database import query
from .followers import Followers
from .frames import Name
from .survey import Found, Survey, find_run, may_see, survey
from .tickets import Ticket

__all__ = ["ThreadConsumer"]

logger = logging.getLogger("agentcore.realtime")

BAD_FRAMES = 3
FLOOD_FRAMES = 60
FLOOD_SECONDS = 10.0
SEND_SECONDS = 30.0
"""A server with backpressure lets a send wait for the client; one that reads nothing for so long must come back."""


class ThreadConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """One client watching one thread; it asks the database only when it speaks, and now and then."""

    # No alias of any layer: the hub listens for all sockets, and a socket must not die of a lost Redis.
    channel_layer_alias = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._ticket: Ticket | None = None
        self._guard: asyncio.Task[None] | None = None
        self._followers = Followers(self._say, self._find_run, self._fail)
        self._sending = asyncio.Lock()
        self._closed = False
        self._bad_frames = 0
        self._frames = 0
        self._counted_since = 0.0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection; however it ends, nothing of it stays behind."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._closed = True
            if self._guard is not None:
                self._guard.cancel()
            await self._followers.stop()

    async def dispatch(self, message: Any) -> None:
        """Handle one message, without the visit to the shared database thread that Channels makes first."""
        await getattr(self, get_handler_name(message))(message)

    async def connect(self) -> None:
        """Let in who may see the thread; all others get the same answer."""
        self._ticket = await query(Ticket.of, self.scope)
        if not await query(may_see, self._ticket, self._thread_id):
            await self._end(frames.CLOSE_NOT_FOUND)
            return
        await self.accept()
        self._guard = asyncio.create_task(self._keep_watch())

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Attach, or say what was wrong with the frame."""
        if self._closed:
            return
        if self._is_flood():
            await self._end(frames.CLOSE_FLOOD)
            return
        try:
            cursors = frames.parse(text_data)
        except frames.FrameTooLarge:
            await self._end(frames.CLOSE_BAD_FRAMES)
        except frames.BadFrame as bad:
            await self._reject(str(bad))
        else:
            await self._attach(cursors)

    @property
    def _thread_id(self) -> UUID:
        thread_id: UUID = self.scope["url_route"]["kwargs"]["thread_id"]
        return thread_id

    async def _attach(self, cursors: dict[Name, int]) -> None:
        seen = await self._survey(cursors)
        if seen is None:
            await self._end(frames.CLOSE_NOT_FOUND)
            return
        known = {found.name: found for found in (seen.thread, *seen.runs)}
        for name in cursors.keys() - known.keys():
            await self._say(frames.error("not_found", f"There is no {name} in this thread."))
        await self._say(frames.attached(list(known)))
        for name, found in known.items():
            if name in cursors or not self._followers.follows(name):
                await self._follow(found, cursors.get(name))

    async def _survey(self, cursors: dict[Name, int]) -> Survey | None:
        assert self._ticket is not None
        asked = [name.id for name in cursors if name.kind == "run"]
        return await query(survey, self._ticket, self._thread_id, asked)

    async def _follow(self, found: Found, cursor: int | None) -> None:
        if cursor is not None and cursor >= found.next_seq:
            await self._say(frames.resync(found.name))
            cursor = -1
        after = -1 if cursor is None else cursor
        if found.name.kind == "thread":
            # A client that says where it stands missed what came after: a run may have begun and ended meanwhile.
            # To one that does not, all that came before is history.
            news_from = found.next_seq if cursor is None else cursor + 1
            await self._followers.follow_thread(found, after, news_from)
        else:
            await self._followers.follow_run(found, after)

    async def _reject(self, message: str) -> None:
        if not await query(may_see, self._ticket, self._thread_id):
            await self._end(frames.CLOSE_NOT_FOUND)
            return
        self._bad_frames += 1
        await self._say(frames.error("bad_frame", message))
        if self._bad_frames >= BAD_FRAMES:
            await self._end(frames.CLOSE_BAD_FRAMES)

    def _is_flood(self) -> bool:
        now = asyncio.get_running_loop().time()
        if now - self._counted_since > FLOOD_SECONDS:
            self._counted_since, self._frames = now, 0
        self._frames += 1
        return self._frames > FLOOD_FRAMES

    async def _keep_watch(self) -> None:
        """Ping, and check again that the client may still be here."""
        settings = get_settings()
        now = asyncio.get_running_loop().time
        ping_at = now() + settings.ping_seconds
        # Spread out, so that sockets opened together are not checked together.
        check_at = now() + settings.recheck_seconds * random.uniform(0.5, 1)
        try:
            while not self._closed:
                await asyncio.sleep(max(min(ping_at, check_at) - now(), 0))
                if now() >= check_at:
                    check_at = now() + settings.recheck_seconds
                    if not await query(may_see, self._ticket, self._thread_id):
                        await self._end(frames.CLOSE_NOT_FOUND)
                if now() >= ping_at:
                    ping_at = now() + settings.ping_seconds
                    await self._say(frames.PING)
        except OSError:
            logger.debug("the client went away", extra={"action": "ping"})
        except Exception:
            logger.exception("a socket cannot be checked", extra={"action": "recheck"})
            await self._fail()

    async def _find_run(self, run_id: UUID) -> Found | None:
        return await query(find_run, self._thread_id, run_id)

    async def _say(self, frame: str) -> None:
        async with self._sending:
            if self._closed:
                return
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    await self.send(text_data=frame)
            except TimeoutError:
                await self._end(frames.CLOSE_SLOW)

    async def _fail(self) -> None:
        await self._end(frames.CLOSE_FAILED)

    async def _end(self, code: int) -> None:
        if self._closed:
            return
        self._closed = True
        # First the followers, one of which may be stuck sending to a client that does not read.
        await self._followers.stop()
        await self.close(code=code)
