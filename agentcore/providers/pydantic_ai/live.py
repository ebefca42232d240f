"""A provider's stream in a task of its own: whoever reads it may stop, be cancelled or close it from anywhere."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Generic, TypeVar

from ...declaration.model import ModelRequest
from ...values.logextra import log_extra
from .clients import Line, line

__all__ = ["in_a_task"]

logger = logging.getLogger("agentcore.providers")

T = TypeVar("T")

AHEAD = 64
"""How many items may wait for their reader."""
QUIET = 0.1
"""Seconds without an item after which it is worth saying that something else comes."""
CLOSING = 1.0
"""Seconds that a connection may take to close."""


_tasks: set[asyncio.Task[None]] = set()
"""Those that have not ended: a loop itself does not keep a task that nobody waits for any more."""


async def in_a_task(items: AsyncGenerator[T], on: Line, request: ModelRequest) -> AsyncGenerator[T | None]:
    """Yield what a generator yields, run from its first step to its last in one task, and raise what it raises.

    Its connection and its time limits belong to the task that opened them. None stands for something that came on
    the line and was no item: it shows that the call lives. Closing this one ends the task and what it has open.
    The log says for which request it took too long.
    """
    waiting: _Waiting[T] = _Waiting(on)
    task = asyncio.create_task(waiting.fill(items))
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    loop, said = asyncio.get_running_loop(), 0.0
    try:
        while not waiting.ended or waiting.items:
            if waiting.items:
                yield waiting.take()
                said = loop.time()
                continue
            await on.heard.wait()
            on.heard.clear()
            if not waiting.items and loop.time() - said > QUIET:
                yield None
                said = loop.time()
        if waiting.error is not None:
            raise waiting.error
    finally:
        task.cancel()
        _, late = await asyncio.wait([task], timeout=CLOSING)
        if late:
            extra = log_extra("connection_stays_open", request.run_id, request.attempt)
            logger.warning("a connection to the provider did not close within %g seconds", CLOSING, extra=extra)


class _Waiting(Generic[T]):
    """The items that have come and are yet to be read."""

    def __init__(self, on: Line) -> None:
        self.items: deque[T] = deque()
        self.ended = False
        self.error: BaseException | None = None
        self._on = on
        self._room = asyncio.Event()

    def take(self) -> T:
        """Return the next item."""
        self._room.set()
        return self.items.popleft()

    async def fill(self, items: AsyncGenerator[T]) -> None:
        """Read a generator to its end, or to what it raises."""
        line.set(self._on)
        try:
            async with aclosing(items):
                async for item in items:
                    self.items.append(item)
                    self._on.heard.set()
                    while len(self.items) >= AHEAD:
                        self._room.clear()
                        await self._room.wait()
        except (Exception, asyncio.CancelledError) as error:  # a library may cancel a task of its own
            self.error = error
        finally:
            self.ended = True
            self._on.heard.set()
            await self._on.hang_up()
