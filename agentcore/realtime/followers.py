"""The streams one socket follows: a task each, idle until the hub has something."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from ..streams.hub import Hub
from ..streams.log import Entry
from ..streams.subscription import Allowance
from ..values.logextra import log_extra
from . import frames
from .frames import Name
from .survey import Found

__all__ = ["MAX_FOLLOWED", "Followers"]

logger = logging.getLogger("agentcore.realtime")

MAX_FOLLOWED = 200
"""Streams a socket follows at once; a client that needs more opens another socket, or reads runs over HTTP."""


class Followers:
    """Sends the records of the streams it was given; a run is let go after its last event."""

    def __init__(
        self,
        send: Callable[[str], Awaitable[None]],
        send_event: Callable[[str], Awaitable[None]],
        find_run: Callable[[UUID], Awaitable[Found | None]],
        on_failure: Callable[[], Awaitable[None]],
        unread_bytes: int,
    ) -> None:
        self._send = send
        self._send_event = send_event
        self._find_run = find_run
        self._on_failure = on_failure
        self._allowance = Allowance(unread_bytes)
        self._tasks: dict[Name, asyncio.Task[None]] = {}
        self._seen: set[Name] = set()
        self._announced_from: int | None = None
        self._stopped = False

    async def follow_thread(self, found: Found, after: int, news_from: int) -> None:
        """Follow the thread's stream; runs it announces from `news_from` on are followed too, ended or not."""
        self._announced_from = news_from if self._announced_from is None else min(self._announced_from, news_from)
        await self._start(found, after, self._notice)

    async def follow_run(self, found: Found, after: int) -> None:
        """Follow a run to its end, from after a position; anew if it is followed already.

        Where there is no room, the client is told, and the run may be asked for again.
        """
        if found.ended and after >= found.next_seq - 1:
            self._stop(found.name)
            self._seen.add(found.name)
        elif await self._start(found, after, _is_last):
            self._seen.add(found.name)

    def follows(self, name: Name) -> bool:
        """Whether the stream is followed, or was to its end."""
        return name in self._tasks or name in self._seen

    async def stop(self) -> None:
        """End all followers; a follower that calls this is not cancelled, but ends by itself after it."""
        self._stopped = True
        tasks, self._tasks = list(self._tasks.values()), {}
        mine = [task for task in tasks if task is not asyncio.current_task()]
        for task in mine:
            task.cancel()
        await asyncio.gather(*mine, return_exceptions=True)

    async def _start(self, found: Found, after: int, ends: Callable[[Entry], Awaitable[bool]]) -> bool:
        if self._stopped:
            return False
        self._stop(found.name)
        if len(self._tasks) >= MAX_FOLLOWED:
            logger.warning("a socket follows too many streams", extra=log_extra("follow"))
            message = f"{found.name} is not followed: this socket follows {MAX_FOLLOWED} streams. Attach to it later."
            await self._send(frames.error("too_many", message, found.name))
            return False
        task = asyncio.create_task(self._follow(found, after, ends))
        self._tasks[found.name] = task
        task.add_done_callback(lambda done: self._forget(found.name, done))
        return True

    def _stop(self, name: Name) -> None:
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()

    def _forget(self, name: Name, task: asyncio.Task[None]) -> None:
        if self._tasks.get(name) is task:
            del self._tasks[name]

    async def _follow(self, found: Found, after: int, ends: Callable[[Entry], Awaitable[bool]]) -> None:
        try:
            async with Hub.current().watch(found.stream_id, after, self._allowance) as subscription:
                while True:
                    for entry in await subscription.next():
                        for frame in frames.event(found.name, entry.seq, entry.data):
                            await self._send_event(frame)
                        if self._stopped or await ends(entry):
                            return
        except OSError:
            logger.debug("the client went away", extra=log_extra("follow"))
        except Exception:
            logger.exception("a stream cannot be followed", extra=log_extra("follow"))
            await self._on_failure()

    async def _notice(self, entry: Entry) -> bool:
        is_news = self._announced_from is not None and entry.seq >= self._announced_from
        event = _decode(entry) if is_news else {}
        if event.get("type") == "thread.run":
            name = Name("run", UUID(event["run"]))
            found = None if self.follows(name) else await self._find_run(name.id)
            if found is not None and not self.follows(name):
                await self.follow_run(found, -1)
        return False


async def _is_last(entry: Entry) -> bool:
    # Most events are deltas: they are not parsed.
    return b'"done"' in entry.data and _decode(entry).get("type") == "done"


def _decode(entry: Entry) -> dict[str, Any]:
    event = json.loads(entry.data)
    return event if isinstance(event, dict) else {}
