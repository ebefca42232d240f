"""Announce committed records: lossy, late or never, but never in the writer's way.

The database is the truth; a hint only spares a follower the wait for its next poll.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol
from uuid import UUID

from ..failpoints import failpoint
from ..values.logextra import log_extra
from .publisher import Hint, LoopPublisher, Publisher, ThreadPublisher, Transport, small

__all__ = ["Written", "close", "flush", "publish", "sent_from_this_loop", "use_transport"]

logger = logging.getLogger("agentcore.streams")

LAST_SECONDS = 1.0


class Written(Protocol):
    """Records of one stream that are committed."""

    @property
    def stream_id(self) -> UUID: ...
    @property
    def first_seq(self) -> int: ...
    @property
    def payloads(self) -> Sequence[bytes]: ...


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
        logger.warning("hints were dropped", extra=log_extra("hint"), exc_info=True)


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


@asynccontextmanager
async def sent_from_this_loop() -> AsyncIterator[None]:
    """Send this process's hints from the running event loop meanwhile, and at the end those that still wait."""
    global _publisher
    loop = asyncio.get_running_loop()
    with _lock:
        former, _publisher = _publisher, None if _transport is None else LoopPublisher(_transport, loop)
        publisher = _publisher
    if former is not None:
        former.close(0)
    try:
        yield
    finally:
        with _lock:
            _publisher = None if _publisher is publisher else _publisher
        if publisher is not None:
            await loop.run_in_executor(None, publisher.flush, LAST_SECONDS)


def _current() -> Publisher | None:
    global _publisher
    if _publisher is None and _transport is not None:
        with _lock:
            if _publisher is None and _transport is not None:
                _publisher = ThreadPublisher(_transport)
    return _publisher


def _hint(item: Written) -> Hint:
    frames = tuple(item.payloads)
    return Hint(item.stream_id, item.first_seq, item.first_seq + len(frames), small(frames))


def _after_fork() -> None:
    # Threads do not survive a fork and a lock may have been held at it.
    global _publisher, _lock
    _publisher, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(flush, 1.0)
