"""Ends a process that cannot be trusted any more: its event loop stands still, or a tool's thread cannot be stopped."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import IO

logger = logging.getLogger("agentcore.jobs")

BLOCKED_STATUS = 1
STUCK_STATUS = 75


class Watchdog:
    """Watches one event loop.

    While the loop stands still no lease is renewed and nobody's run moves. So a
    timer of the interpreter's, which needs neither the loop nor its lock, prints
    where every thread is and ends the process with status 1, unless the loop sets
    it anew in time. A thread that has outlived its tool's timeout for as long
    cannot be ended alone either: `give_up` is called, for a clean end.
    """

    def __init__(self, seconds: float, stuck_threads: Callable[[], int], give_up: Callable[[], None]) -> None:
        self._seconds = seconds
        self._stuck_threads = stuck_threads
        self._give_up = give_up
        self._stuck_since: float | None = None

    async def watch(self) -> None:
        """Watch until cancelled."""
        output = _standard_error()
        try:
            while True:
                faulthandler.dump_traceback_later(self._seconds, exit=True, file=output)
                if self._thread_is_stuck():
                    logger.error("a tool's thread does not end; leaving", extra={"action": "stuck_thread"})
                    self._give_up()
                await asyncio.sleep(min(1.0, self._seconds / 4))
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _thread_is_stuck(self) -> bool:
        if not self._stuck_threads():
            self._stuck_since = None
            return False
        if self._stuck_since is None:
            self._stuck_since = time.monotonic()
        return time.monotonic() - self._stuck_since > self._seconds


def _standard_error() -> IO[str] | int:
    """Return a file with a descriptor of its own: the timer writes past Python's buffers."""
    for stream in (sys.stderr, sys.__stderr__):
        try:
            if stream is not None and stream.fileno() >= 0:
                return stream
        except (OSError, ValueError):
            continue
    return os.open(os.devnull, os.O_WRONLY)
