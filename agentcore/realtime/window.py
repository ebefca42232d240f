"""How much one socket has sent and its client has not acknowledged: pure bookkeeping, and a place to wait.

A server without backpressure (daphne) takes whatever it is given and keeps it for a client that does not read. So the
protocol has its own: from time to time a mark follows what was sent, and the client answers with an ack of that mark.
"""

from __future__ import annotations

import asyncio
from collections import deque

__all__ = ["Window"]

MARKS = 4
"""Marks in a full window: the client acknowledges a quarter while the next ones are under way."""


class Window:
    """Bytes sent and acknowledged; open while fewer than `size` are under way."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._sent = 0
        self._acked = 0
        self._marked = 0
        self._marks: deque[tuple[int, float]] = deque()
        self._moved = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Whether more may be sent."""
        return self._sent - self._acked < self._size

    @property
    def waits_since(self) -> float | None:
        """The loop's time when the oldest mark without an ack was sent, None where there is none."""
        return self._marks[0][1] if self._marks else None

    def count(self, size: int) -> int | None:
        """Count what was sent; return the mark to send after it, where it is time for one."""
        self._sent += size
        if self._sent - self._marked < self._size // MARKS:
            return None
        self._marked = self._sent
        self._marks.append((self._sent, asyncio.get_running_loop().time()))
        return self._sent

    def accept_ack(self, mark: int) -> bool:
        """Accept an ack of a mark, and so of all before it; False for what is no mark, or has its ack."""
        if all(sent != mark for sent, _ in self._marks):
            return False
        while self._marks and self._marks[0][0] <= mark:
            self._marks.popleft()
        self._acked = mark
        self._moved.set()
        return True

    async def opened(self) -> None:
        """Wait until more may be sent."""
        while not self.is_open:
            self._moved.clear()
            await self._moved.wait()
