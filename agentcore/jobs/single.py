"""Drives a single run in its process, as RQ's forked job and `agentcore_drive` do; SIGTERM drains it."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync
from django.db import close_old_connections, connections
from rq.timeouts import BaseTimeoutException

from ..conf import get_settings
from ..engine.drive import Outcome
from ..engine.runtime import Runtime, this_worker
from ..failpoints import failpoint
from ..services import execution
from ..streams import hints
from .watchdog import Watchdog

FLUSH_SECONDS = 1.0


class Drain:
    """Turns a signal into the drain of the run that this process drives, or is about to drive."""

    def __init__(self) -> None:
        self._asked = False
        self._drain: Callable[[], None] | None = None

    def install(self) -> None:
        """Handle SIGTERM from now on, for as long as this process lives."""
        signal.signal(signal.SIGTERM, self._on_signal)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle SIGTERM for a while, where this thread may."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.getsignal(signal.SIGTERM)
        self.install()
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
            self._asked = False

    @contextmanager
    def calling(self, drain: Callable[[], None]) -> Iterator[None]:
        """Have the signal call `drain` on the running loop."""
        loop = asyncio.get_running_loop()

        def from_handler() -> None:
            loop.call_soon_threadsafe(drain)

        self._drain = from_handler
        try:
            if self._asked:
                drain()
            yield
        finally:
            self._drain = None

    def _on_signal(self, number: int, frame: Any) -> None:
        first, self._asked = not self._asked, True
        # Only once: the end of a second grace would come in the middle of the handing over.
        if first and self._drain is not None:
            self._drain()


DRAIN = Drain()


def execute_run(run_id: str) -> str:
    """The job of RQ: drive the run as far as it goes now, and say why it was let go; a no-op where nothing is to do.

    RQ forks for every job: a connection inherited from the parent is closed first,
    and hints still on their way are sent before the process goes.
    """
    connections.close_all()
    failpoint("job_entry")
    try:
        return drive(UUID(run_id)).value
    finally:
        close_old_connections()
        hints.flush(FLUSH_SECONDS)


def drive(run_id: UUID) -> Outcome:
    """Drive a run as far as it goes now, on this thread and its database connection.

    After SIGTERM it is given back at its next step boundary, or, when the grace of
    `DRAIN_SECONDS` is over, where it stands. RQ's own deadline does not fail the run:
    it is raised here, and another worker drives the run on. Whatever else breaks the loop, such as a `SystemExit`
    in a task that a tool has left behind, is a breakdown: the lease runs out, and counts towards `POISON_AFTER`.
    """
    with DRAIN.installed():
        runtime = Runtime(this_worker(), gives_up_on=(BaseTimeoutException,), ends_by_drain=True)
        return async_to_sync(_drive)(run_id, runtime)


async def _drive(run_id: UUID, runtime: Runtime) -> Outcome:
    settings = get_settings()
    loop = asyncio.get_running_loop()
    work = asyncio.ensure_future(execution.adrive(run_id, runtime))

    def drain() -> None:
        runtime.drain()
        loop.call_later(settings.drain_seconds, work.cancel)

    dog = Watchdog(settings.watchdog_seconds, runtime.threads.stuck, drain)
    watching = loop.create_task(dog.watch())
    try:
        with DRAIN.calling(drain):
            async with hints.sent_from_this_loop():  # a thread with a loop of its own costs more than all it sends
                return await work
    except asyncio.CancelledError:
        if not work.cancelled():
            raise
        return Outcome.RELEASED
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        await runtime.aclose()
