"""Follow streams live: one hub per event loop, however many watchers.

A hint that follows on is passed straight to the watchers; anything else leads to one read of the rows for all
of a stream's watchers. Every few seconds all watched streams are read, so a lost hint costs seconds at most.
Who may watch what is not asked here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TypeVar
from uuid import UUID

from channels.layers import InMemoryChannelLayer, get_channel_layer

from ..conf import get_settings
from ..values.logextra import log_extra
from .link import Layer, Link
from .publisher import Hint
from .reader import Reader
from .subscription import PAGE, Allowance, Feed, Subscription
from .wire import GROUP, encode, key_of

__all__ = ["Hub", "broadcast", "channel_layer"]

logger = logging.getLogger("agentcore.streams")

T = TypeVar("T")

STREAMS_PER_READ = 50
RETRY_SECONDS = 1.0

_hubs: dict[asyncio.AbstractEventLoop, Hub] = {}
_lock = threading.Lock()
# A forked child runs none of its parent's loops.
os.register_at_fork(after_in_child=_hubs.clear)


def channel_layer() -> Layer | None:
    """Return the project's channel layer, None where hints cannot leave this process.

    An in-memory layer belongs to one event loop, and writers are on others: it is passed by.
    """
    layer: Layer | None = get_channel_layer()
    return None if isinstance(layer, InMemoryChannelLayer) else layer


async def broadcast(batch: Sequence[Hint]) -> None:
    """Send hints to every hub: through the layer, or without one to this process's hubs."""
    layer = channel_layer()
    if layer is not None:
        for message in encode(batch):
            await layer.group_send(GROUP, message)
        return
    with _lock:
        hubs = list(_hubs.items())
    for loop, hub in hubs:
        with suppress(RuntimeError):  # the loop closed meanwhile
            loop.call_soon_threadsafe(hub.take_hints, batch)


class Hub:
    """The watchers of one event loop; at work only while there are any."""

    def __init__(self) -> None:
        self._feeds: dict[UUID, Feed] = {}
        self.watched_keys: dict[bytes, UUID] = {}
        """The same streams by their keys in messages, for the link to look through a message quickly."""
        self._dirty: dict[UUID, None] = {}
        self._work: _Work | None = None

    @classmethod
    def current(cls) -> Hub:
        """Return the running event loop's hub."""
        loop = asyncio.get_running_loop()
        with _lock:
            for closed in [known for known in _hubs if known.is_closed()]:
                del _hubs[closed]
            return _hubs.setdefault(loop, cls())

    @asynccontextmanager
    async def watch(
        self, stream_id: UUID, after: int = -1, allowance: Allowance | None = None
    ) -> AsyncIterator[Subscription]:
        """Follow a stream from after a position, for as long as the block lasts.

        A reader that follows several streams gives all of them one allowance of bytes to hold unread.
        """
        work = self._work = self._work or _Work(self)
        subscription = Subscription(stream_id, after, self._drained, allowance)
        feed = self._feeds.setdefault(stream_id, Feed(stream_id))
        feed.watchers.append(subscription)
        self.watched_keys[key_of(stream_id)] = stream_id
        self._review(feed)
        try:
            yield subscription
        finally:
            feed.watchers.remove(subscription)
            subscription.close()
            if not feed.watchers:
                del self._feeds[stream_id], self.watched_keys[key_of(stream_id)]
                self._dirty.pop(stream_id, None)
            if not self._feeds:
                self._work = None
                work.stop()

    async def find(self, function: Callable[..., T], *args: object) -> T:
        """Return what a function finds, on the thread that reads the streams, whose connection is open for a while.

        Call it only while watching a stream. The function must be quick: all reads wait for it.
        """
        if self._work is None:
            raise RuntimeError("nobody watches a stream: there is no thread to ask on")
        return await self._work.reader.find(function, *args)

    def watched(self) -> list[UUID]:
        """Return the streams that have watchers."""
        return list(self._feeds)

    def take_hints(self, batch: Iterable[Hint]) -> None:
        """Pass hints on to their streams' watchers; where there are none, drop them."""
        for hint in batch:
            feed = self._feeds.get(hint.stream_id)
            if feed is not None:
                feed.take_hint(hint)
                self._review(feed)

    def distrust(self, stream_ids: Iterable[UUID]) -> None:
        """Have streams checked against their rows."""
        for stream_id in stream_ids:
            feed = self._feeds.get(stream_id)
            if feed is not None:
                feed.distrust()
                self._review(feed)

    async def read(self, reader: Reader) -> bool:
        """Read some of the streams somebody needs; say whether there were any."""
        cursors: dict[UUID, int] = {}
        while self._dirty and len(cursors) < STREAMS_PER_READ:
            stream_id = next(iter(self._dirty))
            del self._dirty[stream_id]
            after = self._feeds[stream_id].begin_read()
            if after is not None:
                cursors[stream_id] = after
        if not cursors:
            return False
        try:
            pages = await reader.read(cursors, PAGE)
        except BaseException:
            self.distrust(cursors)
            raise
        for stream_id, page in pages.items():
            feed = self._feeds.get(stream_id)
            if feed is not None:
                feed.take_page(cursors[stream_id], page)
                self._review(feed)
        return True

    def _drained(self, subscription: Subscription) -> None:
        feed = self._feeds.get(subscription.stream_id)
        if feed is not None:
            self._review(feed)

    def _review(self, feed: Feed) -> None:
        if feed.dirty:
            self._dirty[feed.stream_id] = None
            if self._work is not None:
                self._work.wake.set()


class _Work:
    """A hub's tasks between its first watcher and its last."""

    def __init__(self, hub: Hub) -> None:
        self.wake = asyncio.Event()
        self._hub = hub
        self.reader = Reader()
        layer = channel_layer()
        self.link = (
            Link(layer, hub.watched_keys, lambda: hub.distrust(hub.watched()), hub.take_hints) if layer else None
        )
        jobs = [self._pump(), self._poll(), *([self.link.run()] if self.link else [])]
        self._tasks = [asyncio.create_task(job, name="agentcore-hub") for job in jobs]

    def stop(self) -> None:
        """End the tasks, without waiting: whoever leaves last may itself be cancelled."""
        for task in self._tasks:
            task.cancel()
        self.reader.close()

    async def _pump(self) -> None:
        level = logging.WARNING
        while True:
            await self.wake.wait()
            self.wake.clear()
            try:
                while await self._hub.read(self.reader):
                    level = logging.WARNING
            except Exception:
                logger.log(level, "cannot read streams; trying again", extra=log_extra("read"), exc_info=True)
                level = logging.DEBUG  # said once
                await asyncio.sleep(RETRY_SECONDS)
                self.wake.set()

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(get_settings().poll_seconds)
            self._hub.distrust(self._hub.watched())
