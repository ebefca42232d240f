"""Ends a process that cannot be trusted any more: its event loop stands still, or a tool's thread cannot be stopped."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import IO

from ..values.logextra import log_extra

logger = logging.getLogger("agentcore.jobs")

BLOCKED_STATUS = 1
STUCK_STATUS = 75
TICKS = 20


class Watchdog:
    """Watches one event loop.

    While the loop stands still no lease is renewed and no run moves. So a thread counts the
    ticks in which the loop has not moved; after as many as make `seconds`, it prints where
    every thread is and ends the process with `BLOCKED_STATUS`. It counts ticks, not time,
    for a process that was frozen has not blocked its loop.

    That thread needs the interpreter's lock, which code written in C may keep. So each tick
    also resets a timer of the interpreter's that does not need the lock: after twice the time
    without a tick, the timer does the same. It reads the threads' stacks without the lock and
    may crash by that, so it is the second resort. It goes by the clock: a process that was
    frozen for so long may be ended when it goes on, but its leases have run out by then.

    A tool's thread cannot be ended alone either. One that outlives its tool's timeout by
    `seconds` makes the watchdog call `give_up`, for a clean end of the process.
    """

    def __init__(self, seconds: float, stuck_threads: Callable[[], int], give_up: Callable[[], None]) -> None:
        self._seconds = seconds
        self._stuck_threads = stuck_threads
        self._give_up = give_up
        self._stuck_since: float | None = None
        self._moved = threading.Event()
        self._ended = threading.Event()
        self._output = _standard_error()

    async def watch(self) -> None:
        """Watch until cancelled."""
        counter = threading.Thread(target=self._count, name="agentcore-watchdog", daemon=True)
        self._wind_up()
        counter.start()
        try:
            while True:
                self._moved.set()
                if self._thread_is_stuck():
                    logger.error("a tool's thread does not end; leaving", extra=log_extra("stuck_thread"))
                    self._give_up()
                await asyncio.sleep(min(1.0, self._seconds / 4))
        finally:
            self._ended.set()
            counter.join()
            faulthandler.cancel_dump_traceback_later()

    def _count(self) -> None:
        missed = 0
        while not self._ended.wait(self._seconds / TICKS):
            self._wind_up()
            missed = 0 if self._moved.is_set() else missed + 1
            self._moved.clear()
            if missed >= TICKS:
                self._end()

    def _wind_up(self) -> None:
        faulthandler.dump_traceback_later(2 * self._seconds, exit=True, file=self._output)

    def _end(self) -> None:
        """End this process; this thread holds the interpreter's lock, so no other moves while it is looked at."""
        _say(self._output, f"Timeout! The event loop has stood still for {self._seconds:g} seconds.\n")
        faulthandler.dump_traceback(file=self._output, all_threads=True)
        os._exit(BLOCKED_STATUS)

    def _thread_is_stuck(self) -> bool:
        if not self._stuck_threads():
            self._stuck_since = None
            return False
        if self._stuck_since is None:
            self._stuck_since = time.monotonic()
        return time.monotonic() - self._stuck_since > self._seconds


def _say(output: IO[str] | int, text: str) -> None:
    os.write(output if isinstance(output, int) else output.fileno(), text.encode())


def _standard_error() -> IO[str] | int:
    """Return a file with a descriptor of its own: what is written to it goes past Python's buffers."""
    for stream in (sys.stderr, sys.__stderr__):
        try:
            if stream is not None and stream.fileno() >= 0:
                return stream
        except (OSError, ValueError):
            continue
    return os.open(os.devnull, os.O_WRONLY)
