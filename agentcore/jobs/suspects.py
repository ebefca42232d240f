"""Runs whose last worker was lost, each driven in a process of its own, so that it can take nobody with it.

The processes are forked from a server that has loaded the project and does nothing
else (`multiprocessing`'s fork server): a worker that died with many runs leaves as many
suspects, and to start the interpreter for each would take longer than their leases.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import sys
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from uuid import UUID

from .lone import drive_alone

logger = logging.getLogger("agentcore.jobs")

LAST_SECONDS = 5.0
SERVER = "agentcore.jobs.lone_server"


class Suspects:
    """The processes of one worker that drive a suspect run each; they end with the worker."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._processes: set[ForkServerProcess] = set()

    def prepare(self) -> None:
        """Start the server, which loads the project meanwhile."""
        self._context.set_forkserver_preload([SERVER])
        before = os.environ.get("PYTHONPATH")
        # The server imports from where this process does; Python 3.11 tells it only by the environment.
        os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        try:
            forkserver.ensure_running()
        finally:
            if before is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = before

    async def drive(self, run_id: UUID) -> None:
        """Drive a run in a process of its own, until it lets go; cancelled, the process gets seconds to hand over."""
        process = self._context.Process(target=drive_alone, args=(str(run_id),), name=f"run {run_id}")
        self._processes.add(process)
        try:
            # In a thread: the first one waits for the server to have loaded the project.
            await asyncio.shield(asyncio.ensure_future(asyncio.to_thread(process.start)))
            about = {"run_id": str(run_id), "action": "driven_alone"}
            logger.info("a suspect run, driven alone by process %d", process.pid, extra=about)
            await self._until_the_end_of(process)
            if process.exitcode:
                logger.warning("process %d ended with status %s", process.pid, process.exitcode, extra=about)
        finally:
            self._processes.discard(process)
            _end(process)

    async def _until_the_end_of(self, process: ForkServerProcess) -> None:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(process.sentinel, ended.set)
        try:
            await ended.wait()
        except asyncio.CancelledError:
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), LAST_SECONDS)
            raise
        finally:
            loop.remove_reader(process.sentinel)

    def drain(self) -> None:
        """Have every process give its run back at its next step boundary."""
        for process in self._processes:
            if process.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End every process, and what it has started, at once."""
        for process in self._processes:
            _end(process)


def _end(process: ForkServerProcess) -> None:
    """Kill whatever is left of a process, which leads its own group."""
    if process.pid is not None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
