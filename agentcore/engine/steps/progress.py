"""The progress that a tool's body shows while it runs: written one commit at a time, while the rest gathers."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from ...conf import get_settings
from ...journal.commit import Commit
from ...values import events, jsontext
from ...values.logextra import log_extra

logger = logging.getLogger("agentcore.engine")

MOST_AT_ONCE = 100
"""What a body shows faster than it can be written: so many of the latest are written, older ones are left out."""


class Progress:
    """What one attempt at a call shows. With `commit`, it is written as it comes; without, it is for `take()`.

    A body in a loop shows more than any database takes, and each commit on its way would delay the
    renewal of the run's lease. So one commit is on its way at most, and of what gathers behind
    it the latest are kept: `MOST_AT_ONCE` of them, and no more bytes together than `RESULT_LIMIT`.
    """

    def __init__(self, call_id: str, commit: Callable[[Commit], Awaitable[None]] | None = None) -> None:
        self._call_id = call_id
        self._commit = commit
        self._loop = asyncio.get_running_loop() if commit is not None else None
        self._lock = threading.Lock()
        self._waiting: deque[tuple[events.Event, int]] = deque()
        self._size = 0
        self._ended = False
        self._writer: asyncio.Task[None] | None = None

    def show(self, value: Any) -> None:
        """Show JSON data; may be called from any thread. After the end it is left out."""
        size, most = jsontext.size(value), get_settings().result_limit
        with self._lock:
            if self._ended:
                return
            is_first = not self._waiting
            self._waiting.append((events.ToolProgress(self._call_id, value), size))
            self._size += size
            while len(self._waiting) > 1 and (len(self._waiting) > MOST_AT_ONCE or self._size > most):
                self._size -= self._waiting.popleft()[1]
        # Whatever gathers behind the first is taken with it: the loop is not woken for each of a million values.
        if is_first and self._loop is not None:
            self._loop.call_soon_threadsafe(self._begin)

    def take(self) -> list[events.Event]:
        """Return what has gathered, in its order."""
        with self._lock:
            taken = [event for event, _ in self._waiting]
            self._waiting.clear()
            self._size = 0
        return taken

    async def end(self) -> None:
        """Write what has gathered until now, and nothing that is shown later."""
        with self._lock:
            self._ended = True
        self._begin()
        if self._writer is not None:
            await asyncio.gather(self._writer, return_exceptions=True)

    def _begin(self) -> None:
        """Begin to write, on the loop, unless a writer is at it: that one takes what has gathered before it ends."""
        if self._loop is not None and self._waiting and (self._writer is None or self._writer.done()):
            self._writer = self._loop.create_task(self._write(), name="agentcore-progress")

    async def _write(self) -> None:
        assert self._commit is not None
        while shown := self.take():
            try:
                await self._commit(Commit(events=shown))
            except Exception:
                logger.warning("what a tool shows was not written", exc_info=True, extra=log_extra("progress_lost"))
