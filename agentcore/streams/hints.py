"""Announce committed records: lossy, late or never, but never in the writer's way.

The database is the truth; a hint only spares a follower the wait for its next poll.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from ..failpoints import failpoint

__all__ = ["FRAME_BYTES", "Hint", "Publisher", "Written", "close", "flush", "publish", "use_transport"]

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
            frames = _small((*self.frames, *other.frames))
        return Hint(self.stream_id, min(self.first_seq, other.first_seq), max(self.next_seq, other.next_seq), frames)


class Written(Protocol):
    """Records of one stream that are committed."""

    @property
    def stream_id(self) -> UUID: ...
    @property
    def first_seq(self) -> int: ...
    @property
    def payloads(self) -> Sequence[bytes]: ...


Transport = Callable[[Sequence[Hint]], Awaitable[None]]
"""Sends hints of different streams."""


class Publisher:
    """One background thread with one event loop, and the hints it still has to send."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._pending: dict[UUID, Hint] = {}
        self._sending = False
        self._closed = False
        self._changed = threading.Condition()
        self._warned_at = 0.0
        self._thread: threading.Thread | None = None

    def publish(self, hints: Iterable[Hint]) -> None:
        """Queue hints, merging each into its stream's unsent one."""
        with self._changed:
            for hint in hints:
                known = self._pending.get(hint.stream_id)
                if known is not None:
                    self._pending[hint.stream_id] = known.merge(hint)
                elif len(self._pending) < MAX_PENDING:
                    self._pending[hint.stream_id] = hint
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="agentcore-hints", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until nothing is queued; say whether that came true in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._pending and not self._sending, timeout)

    def close(self, timeout: float) -> None:
        """Send what is queued and end the thread, or leave that to the thread after so many seconds."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

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
            self._sending = bool(self._pending)
            batch, self._pending = self._pending, {}
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
                extra={"action": "hint", "dropped": dropped},
            )


_transport: Transport | None = None
_publisher: Publisher | None = None
_lock = threading.Lock()


def use_transport(transport: Transport | None) -> None:
    """Send hints through this coroutine function from now on; None sends nothing. What waits goes the old way."""
    global _transport
    with _lock:
        _transport = transport
    close(0)


def publish(written: Iterable[Written]) -> None:
    """Announce the committed records of any number of streams; returns at once and never raises."""
    publisher = _current()
    if publisher is None:
        return
    try:
        failpoint("before_hint")
        publisher.publish([_hint(item) for item in written])
    except Exception:  # such as no thread to be had at the interpreter's end: the records are committed all the same
        logger.warning("hints were dropped", extra={"action": "hint"}, exc_info=True)


def flush(timeout: float) -> bool:
    """Wait until this process's hints are sent or dropped; say whether that came true in time."""
    publisher = _publisher
    return publisher is None or publisher.flush(timeout)


def close(timeout: float) -> None:
    """Send this process's hints and end the thread that does it; the next hint starts another."""
    global _publisher
    with _lock:
        former, _publisher = _publisher, None
    if former is not None:
        former.close(timeout)


def _current() -> Publisher | None:
    global _publisher
    if _publisher is None and _transport is not None:
        with _lock:
            if _publisher is None and _transport is not None:
                _publisher = Publisher(_transport)
    return _publisher


def _hint(item: Written) -> Hint:
    frames = tuple(item.payloads)
    return Hint(item.stream_id, item.first_seq, item.first_seq + len(frames), _small(frames))


def _small(frames: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return frames if sum(map(len, frames)) <= FRAME_BYTES else ()


def _after_fork() -> None:
    # Threads do not survive a fork and a lock may have been held at it.
    global _publisher, _lock
    _publisher, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(flush, 1.0)
