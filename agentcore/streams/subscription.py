"""What the watchers of one stream still have to get: pure bookkeeping of cursors, no I/O."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from uuid import UUID

from .log import Entry
from .publisher import Hint

__all__ = ["MAX_BYTES", "MAX_ENTRIES", "PAGE", "Allowance", "Feed", "Subscription"]

PAGE = 200
"""Entries of one stream a read returns at most."""
MAX_ENTRIES = 1000
MAX_BYTES = 1 << 20
"""A watcher that has this much unread gets nothing more until it has read."""


class Allowance:
    """Bytes that one reader's subscriptions may hold together, an entry more at most."""

    def __init__(self, limit: int = MAX_BYTES) -> None:
        self._limit = limit
        self._used = 0
        self._subscriptions: list[Subscription] = []

    @property
    def has_room(self) -> bool:
        """Whether another entry may be taken in."""
        return self._used < self._limit

    def join(self, subscription: Subscription) -> None:
        """Let a subscription share the allowance."""
        self._subscriptions.append(subscription)

    def leave(self, subscription: Subscription) -> None:
        """Let a subscription go, after it has given back what it held."""
        self._subscriptions.remove(subscription)

    def take(self, size: int) -> None:
        """Use some of it."""
        self._used += size

    def give_back(self, size: int) -> None:
        """Have some of it again; whoever had no room is reviewed."""
        was_full = not self.has_room
        self._used -= size
        if was_full and self.has_room:
            for subscription in self._subscriptions:
                subscription.review()


class Subscription:
    """One watcher's place in one stream: gapless, in order, without duplicates."""

    def __init__(
        self,
        stream_id: UUID,
        after: int,
        drained: Callable[[Subscription], None],
        allowance: Allowance | None = None,
    ) -> None:
        self.stream_id = stream_id
        self.cursor = after
        """Position of the last entry handed to this watcher's buffer."""
        self.stale = True
        """Whether the rows may hold more than this watcher was given."""
        self._drained = drained
        self._buffer: list[Entry] = []
        self._bytes = 0
        self._in_hand = 0
        self._allowance = allowance or Allowance()
        self._allowance.join(self)
        self._filled = asyncio.Event()

    @property
    def hungry(self) -> bool:
        """Whether there is room in the buffer."""
        return len(self._buffer) < MAX_ENTRIES and self._bytes < MAX_BYTES and self._allowance.has_room

    def review(self) -> None:
        """Say that there may be room again, where something was missed for the lack of it."""
        if self.stale:
            self._drained(self)

    def close(self) -> None:
        """Give back what is held."""
        held, self._in_hand = self._bytes + self._in_hand, 0
        self._buffer, self._bytes = [], 0
        self._allowance.leave(self)
        self._allowance.give_back(held)

    async def next(self) -> list[Entry]:
        """Wait for entries and return all there are; those of the call before count as held until then."""
        self._allowance.give_back(self._in_hand)
        self._in_hand = 0
        while not self._buffer:
            self._filled.clear()
            await self._filled.wait()
        was_full = not self.hungry
        entries, self._buffer = self._buffer, []
        self._in_hand, self._bytes = self._bytes, 0
        if was_full and self.stale:
            self._drained(self)
        return entries

    def feed(self, entries: Sequence[Entry]) -> None:
        """Take the entries after the cursor while there is room; they must follow on."""
        for entry in entries:
            if entry.seq <= self.cursor:
                continue
            if not self.hungry:
                self.stale = True
                return
            self._buffer.append(entry)
            self._bytes += len(entry.data)
            self._allowance.take(len(entry.data))
            self.cursor = entry.seq
            self._filled.set()


class Feed:
    """The watchers of one stream."""

    def __init__(self, stream_id: UUID) -> None:
        self.stream_id = stream_id
        self.watchers: list[Subscription] = []

    @property
    def dirty(self) -> bool:
        """Whether a read would help somebody."""
        return any(watcher.stale and watcher.hungry for watcher in self.watchers)

    def distrust(self) -> None:
        """Let every watcher be checked against the rows."""
        for watcher in self.watchers:
            watcher.stale = True

    def begin_read(self) -> int | None:
        """Choose the position to read after, None if nobody needs it; what comes in later makes stale again.

        The watcher longest in need is served, together with those a little behind it, so that neither a
        newcomer's long history nor a slow reader holds up the others.
        """
        waiting = [watcher for watcher in self.watchers if watcher.stale and watcher.hungry]
        if not waiting:
            return None
        first = waiting[0].cursor
        after = min(watcher.cursor for watcher in waiting if watcher.cursor > first - PAGE // 2)
        for watcher in waiting:
            if after <= watcher.cursor <= after + PAGE:
                watcher.stale = False
                # To the back of the queue, for the case that this page does not end its need.
                self.watchers.remove(watcher)
                self.watchers.append(watcher)
        return after

    def take_page(self, after: int, page: Sequence[Entry]) -> None:
        """Hand out what a read found after a position."""
        for watcher in self.watchers:
            if watcher.cursor < after:
                continue
            watcher.feed(page)
            if len(page) >= PAGE:
                watcher.stale = True

    def take_hint(self, hint: Hint) -> None:
        """Hand out a hint's own records where they follow on; where they do not, ask for a read."""
        entries = [Entry(self.stream_id, hint.first_seq + offset, frame) for offset, frame in enumerate(hint.frames)]
        for watcher in self.watchers:
            if hint.next_seq <= watcher.cursor + 1:
                continue
            if entries and hint.first_seq <= watcher.cursor + 1 and watcher.hungry:
                watcher.feed(entries)
            else:
                watcher.stale = True
