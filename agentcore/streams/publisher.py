"""A hint, and how those of a process are sent: lossy, late or never, but never in the writer's way."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from ..values.logextra import log_extra

__all__ = ["FRAME_BYTES", "Hint", "LoopPublisher", "Publisher", "ThreadPublisher", "Transport", "small"]

logger = logging.getLogger("agentcore.streams")

FRAME_BYTES = 4096
"""A stream's hint carries the records themselves up to this size; beyond it, only where to look."""
MAX_PENDING = 10_000
"""Streams with an unsent hint; further ones are dropped."""
SEND_SECONDS = 5.0
PAUSE_SECONDS = 1.0
WARN_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Hint:
    """Stream so-and-so has records from `first_seq` up to, not including, `next_seq`."""

    stream_id: UUID
    first_seq: int
    next_seq: int
    frames: tuple[bytes, ...] = ()

    def merge(self, other: Hint) -> Hint:
        """Return one hint for both; frames survive when they follow on and stay small."""
        frames: tuple[bytes, ...] = ()
        if self.frames and other.frames and self.next_seq == other.first_seq:
            frames = small((*self.frames, *other.frames))
        return Hint(self.stream_id, min(self.first_seq, other.first_seq), max(self.next_seq, other.next_seq), frames)


def small(frames: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return the frames that a hint carries: all of them, or none where they are too large."""
    return frames if sum(map(len, frames)) <= FRAME_BYTES else ()


Transport = Callable[[Sequence[Hint]], Awaitable[None]]
"""Sends hints of different streams."""


class Publisher(ABC):
    """The hints that this process still has to send; a subclass says where they are sent from."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._pending: dict[UUID, Hint] = {}
        self._sending = False
        self._changed = threading.Condition()
        self._warned_at = 0.0

    def publish(self, hints: Iterable[Hint]) -> None:
        """Queue hints, merging each into its stream's unsent one."""
        with self._changed:
            for hint in hints:
                known = self._pending.get(hint.stream_id)
                if known is not None:
                    self._pending[hint.stream_id] = known.merge(hint)
                elif len(self._pending) < MAX_PENDING:
                    self._pending[hint.stream_id] = hint
            self._wake()

    def flush(self, timeout: float) -> bool:
        """Wait until nothing is queued; say whether that came true in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._pending and not self._sending, timeout)

    @abstractmethod
    def close(self, timeout: float) -> None:
        """Send what is queued, and no more after that; what takes longer than so many seconds is not waited for."""

    @abstractmethod
    def _wake(self) -> None:
        """Have what is queued sent; the caller holds the lock."""

    def _take(self) -> Sequence[Hint]:
        """Take what is queued, which is being sent from now on; the caller holds the lock."""
        batch, self._pending = self._pending, {}
        self._sending = bool(batch)
        self._changed.notify_all()
        return list(batch.values())

    async def _send(self, batch: Sequence[Hint]) -> bool:
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._transport(batch)
        except Exception as error:
            self._warn(error, dropped=len(batch))
            return False
        return True

    def _warn(self, error: Exception, dropped: int) -> None:
        if time.monotonic() - self._warned_at > WARN_SECONDS or not self._warned_at:
            self._warned_at = time.monotonic()
            logger.warning(
                "hints are not getting through (%r); followers poll meanwhile",
                error,
                extra=log_extra("hint", dropped=dropped),
            )


class ThreadPublisher(Publisher):
    """Sends from one background thread with an event loop of its own."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport)
        self._closed = False
        self._thread: threading.Thread | None = None

    def close(self, timeout: float) -> None:
        """Send what is queued and end the thread, or leave that to the thread after so many seconds."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _wake(self) -> None:
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._run, name="agentcore-hints", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            while batch := self._next():
                if not runner.run(self._send(batch)):
                    with self._changed:
                        self._changed.wait_for(lambda: self._closed, PAUSE_SECONDS)

    def _next(self) -> Sequence[Hint]:
        """Wait for hints and take them; there are none once all is sent and the publisher closed."""
        with self._changed:
            self._sending = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: bool(self._pending) or self._closed)
            return self._take()


class LoopPublisher(Publisher):
    """Sends from an event loop that runs anyway: no thread has to be woken for each commit."""

    def __init__(self, transport: Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(transport)
        self._loop = loop
        self._task: asyncio.Task[None] | None = None
        self._woken = False

    def close(self, timeout: float) -> None:
        """Leave it to the loop to send what is queued, for as long as it runs."""

    def _wake(self) -> None:
        if not self._woken and self._pending:
            self._woken = True
            self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._send_all(), name="agentcore-hints")

    async def _send_all(self) -> None:
        while batch := self._next():
            if not await self._send(batch):
                await asyncio.sleep(PAUSE_SECONDS)

    def _next(self) -> Sequence[Hint]:
        """Take the hints there are; without any, the next one wakes the loop again."""
        with self._changed:
            self._woken = bool(self._pending)
            return self._take()
