"""Runs whose last worker was lost, each driven in a process of its own, so that it can take nobody with it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from contextlib import suppress
from uuid import UUID

logger = logging.getLogger("agentcore.jobs")

LAST_SECONDS = 5.0


class Suspects:
    """The processes of one worker that drive a suspect run each; they end with the worker."""

    def __init__(self) -> None:
        self._processes: set[asyncio.subprocess.Process] = set()

    async def drive(self, run_id: UUID) -> None:
        """Drive a run in a process of its own, until it lets go; cancelled, the process gets seconds to hand over."""
        process = await asyncio.create_subprocess_exec(
            *command(run_id), env=environment(), stdin=asyncio.subprocess.DEVNULL, start_new_session=True
        )
        self._processes.add(process)
        about = {"run_id": str(run_id), "action": "driven_alone"}
        logger.info("a suspect run, driven alone by process %d", process.pid, extra=about)
        try:
            status = await process.wait()
        except asyncio.CancelledError:
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), LAST_SECONDS)
            raise
        finally:
            self._processes.discard(process)
            end_session(process.pid)
        if status != 0:
            logger.warning("process %d ended with status %d", process.pid, status, extra=about)

    def drain(self) -> None:
        """Have every process give its run back at its next step boundary."""
        for process in self._processes:
            with suppress(ProcessLookupError):
                process.terminate()

    def kill(self) -> None:
        """End every process, and what it has started, at once."""
        for process in self._processes:
            end_session(process.pid)


def command(run_id: UUID) -> list[str]:
    """Return the command that drives one run alone."""
    return [sys.executable, "-m", "django", "agentcore_drive", str(run_id), "--parent", str(os.getpid())]


def environment() -> dict[str, str]:
    """Return this process's environment, with the places it imports from."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def end_session(pid: int) -> None:
    """Kill whatever is left of a process that leads its own group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
