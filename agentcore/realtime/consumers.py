"""The websocket of a thread: its own events, and those of its runs, from the client's cursors on."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from typing import Any
from uuid import UUID

from channels.consumer import get_handler_name
from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer

from ..conf import get_settings
from ..streams.hub import Hub
from ..values.logextra import log_extra
from . import frames
from .database import query
from .followers import Followers
from .frames import Ack, Name
from .seats import Seats
from .survey import Found, Survey, find_run, may_see, survey
from .tickets import Ticket
from .window import Window

__all__ = ["ThreadConsumer"]

logger = logging.getLogger("agentcore.realtime")

BAD_FRAMES = 3
FLOOD_FRAMES = 60
FLOOD_SECONDS = 10.0
LAST_WORDS_SECONDS = 1.0
"""How long the sentence that goes before a close may take."""

_seats = Seats()


class ThreadConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """One client that watches one thread; the database is queried when the client sends a frame, and now and then."""

    # No alias of any layer: the hub listens for all sockets, and a socket must not die of a lost Redis.
    channel_layer_alias = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        settings = get_settings()
        self._ticket: Ticket | None = None
        self._seated = False
        self._guard: asyncio.Task[None] | None = None
        self._window = Window(settings.socket_window)
        self._followers = Followers(
            self._say, self._say_in_turn, self._find_run, self._fail, unread_bytes=settings.socket_window
        )
        self._turn = asyncio.Lock()
        self._sending = asyncio.Lock()
        self._accepted = False
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
            if self._seated and self._ticket is not None:
                _seats.release(self._ticket.user_id)
            await self._followers.stop()

    async def dispatch(self, message: Any) -> None:
        """Handle one message, without the visit to the shared database thread that Channels makes first.

        An error closes the socket with a code: what servers do with an exception differs, and tells the client nothing.
        """
        try:
            await getattr(self, get_handler_name(message))(message)
        except (StopConsumer, OSError):
            raise
        except Exception:
            logger.exception("a socket's message cannot be handled", extra=log_extra("socket"))
            await self._fail()

    async def connect(self) -> None:
        """Let in who may see the thread; all others get the same answer."""
        self._ticket = await query(Ticket.of, self.scope)
        if self._ticket is None or not await self._may_stay():
            await self._end(frames.CLOSE_NOT_FOUND)
            return
        self._seated = _seats.reserve(self._ticket.user_id, get_settings().sockets_per_user)
        await self.accept()
        self._accepted = True
        if not self._seated:
            limit = get_settings().sockets_per_user
            await self._end(frames.CLOSE_FLOOD, "too_many_sockets", f"You have {limit} sockets open. Close one first.")
            return
        self._guard = asyncio.create_task(self._keep_watch())

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Attach, accept an ack, or say what was wrong with the frame."""
        if self._closed:
            return
        try:
            frame = frames.parse(text_data)
            if isinstance(frame, Ack):
                self._accept_ack(frame)  # not counted towards a flood: there is one ack for each mark
                return
        except frames.BadFrame as bad:
            if await self._is_flooded():
                return
            if isinstance(bad, frames.FrameTooLarge):
                await self._end(frames.CLOSE_BAD_FRAMES, "bad_frame", str(bad))
            else:
                await self._reject(str(bad))
            return
        if not await self._is_flooded():
            await self._attach(frame.cursors)

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
            # A client with a cursor has missed what came after it, such as a run that has begun and ended since.
            # For a client without one, everything up to now is history.
            news_from = found.next_seq if cursor is None else cursor + 1
            await self._followers.follow_thread(found, after, news_from)
        else:
            await self._followers.follow_run(found, after)

    async def _reject(self, message: str) -> None:
        if not await self._may_stay():
            await self._end(frames.CLOSE_NOT_FOUND)
            return
        self._bad_frames += 1
        await self._say(frames.error("bad_frame", message))
        if self._bad_frames >= BAD_FRAMES:
            await self._end(frames.CLOSE_BAD_FRAMES)

    def _accept_ack(self, ack: Ack) -> None:
        if not self._window.accept_ack(ack.bytes):
            raise frames.BadFrame(f"There is no mark at {ack.bytes} bytes that has no ack yet.")

    async def _is_flooded(self) -> bool:
        now = asyncio.get_running_loop().time()
        if now - self._counted_since > FLOOD_SECONDS:
            self._counted_since, self._frames = now, 0
        self._frames += 1
        if self._frames <= FLOOD_FRAMES:
            return False
        limit = f"{FLOOD_FRAMES} frames in {FLOOD_SECONDS:g} seconds"
        await self._end(frames.CLOSE_FLOOD, "too_many_frames", f"A socket takes {limit}. Come back and send fewer.")
        return True

    async def _may_stay(self) -> bool:
        return await query(may_see, self._ticket, self._thread_id)

    async def _keep_watch(self) -> None:
        """Ping, and check again that the client may still be here, and that it acknowledges what it gets."""
        settings = get_settings()
        now = asyncio.get_running_loop().time
        ping_at = now() + settings.ping_seconds
        # Spread out, so that sockets opened together are not checked together.
        check_at = now() + settings.recheck_seconds * random.uniform(0.5, 1)
        try:
            while not self._closed:
                await asyncio.sleep(max(min(ping_at - now(), check_at - now(), settings.ack_seconds / 2), 0))
                since = self._window.waits_since
                if since is not None and now() - since > settings.ack_seconds:
                    await self._end_slow()
                if now() >= check_at:
                    check_at = now() + settings.recheck_seconds
                    if not await self._may_stay():
                        await self._end(frames.CLOSE_NOT_FOUND)
                if now() >= ping_at:
                    ping_at = now() + settings.ping_seconds
                    await self._say(frames.PING)
        except OSError:
            logger.debug("the client went away", extra=log_extra("ping"))
        except Exception:
            logger.exception("a socket cannot be checked", extra=log_extra("recheck"))
            await self._fail()

    async def _find_run(self, run_id: UUID) -> Found | None:
        return await Hub.current().find(find_run, self._thread_id, run_id)

    async def _say_in_turn(self, frame: str) -> None:
        """Send one of any number of events: one follower at a time, and only while the window is open."""
        async with self._turn:
            if not self._window.is_open:
                try:
                    async with asyncio.timeout(get_settings().ack_seconds):
                        await self._window.opened()
                except TimeoutError:
                    await self._end_slow()
            await self._say(frame)

    async def _say(self, frame: str) -> None:
        """Send at once, window or not: while an answer waited for acks, no ack would be read."""
        try:
            async with asyncio.timeout(get_settings().ack_seconds), self._sending:
                if self._closed:
                    return
                await self.send(text_data=frame)
                mark = self._window.count(len(frame.encode()))
                if mark is not None:
                    await self.send(text_data=frames.mark(mark))
        except TimeoutError:
            await self._end_slow()

    async def _fail(self) -> None:
        await self._end(frames.CLOSE_FAILED, "failed", "Something went wrong here. Come back with your cursors.")

    async def _end_slow(self) -> None:
        sentence = "What was sent is not read, or its marks are not acknowledged. Come back with your cursors."
        await self._end(frames.CLOSE_SLOW, "slow", sentence)

    async def _end(self, code: int, error: str = "", sentence: str = "") -> None:
        if self._closed:
            return
        self._closed = True
        # First the followers, one of which may be stuck sending to a client that does not read.
        await self._followers.stop()
        if error and self._accepted:
            with suppress(Exception):  # a client that does not read does not get it; the code tells the same
                async with asyncio.timeout(LAST_WORDS_SECONDS):
                    await self.send(text_data=frames.error(error, sentence))
        await self.close(code=code, reason=sentence or None)
