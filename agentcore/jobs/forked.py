"""Suspect runs, each driven in a process of its own, so that it cannot bring down other runs with it.

The processes are forked from a server that has loaded the project and does nothing
else (`multiprocessing`'s fork server): a worker that died with many runs leaves as many
suspects, and to start the interpreter for each would take longer than their leases.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
from contextlib import suppress
from multiprocessing import forkserver, util
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from typing import NoReturn
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured

from ..conf import get_settings
from ..values.logextra import log_extra
from .single import execute_run

logger = logging.getLogger("agentcore.jobs")

LAST_SECONDS = 5.0
AGAIN_SECONDS = 1.0
PRELOAD = "agentcore.jobs.preload"


class ForkedRuns:
    """The processes of one worker that drive a suspect run each; they end with the worker."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._processes: set[ForkServerProcess] = set()
        self._told: set[ForkServerProcess] = set()
        self._draining = False

    def start_server(self) -> None:
        """Start the server; it loads the project while the worker goes on.

        Raises `ImproperlyConfigured` where the directory of temporary files cannot hold its socket.
        """
        self._context.set_forkserver_preload([PRELOAD])
        before = os.environ.get("PYTHONPATH")
        # The server imports from where this process does; Python 3.11 tells it only by the environment.
        os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        try:
            forkserver.ensure_running()
        except OSError as error:
            place = tempfile.gettempdir()
            raise ImproperlyConfigured(
                f"A worker needs a socket below {place!r}, and cannot make it: {error}. "
                "Set the environment variable TMPDIR to a short path that this user may write to, such as /tmp."
            ) from error
        finally:
            if before is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = before

    async def drive(self, run_id: UUID) -> None:
        """Drive a run in a process of its own; where this is cancelled, the process gets time to hand the run over."""
        process = self._context.Process(target=drive_forked, args=(str(run_id),), name=f"run {run_id}")
        self._processes.add(process)
        # In a thread, for the first start waits until the server has loaded the project.
        starting = asyncio.ensure_future(asyncio.to_thread(process.start))
        try:
            await asyncio.shield(starting)
            about = log_extra("driven_alone", run_id)
            logger.info("a suspect run, driven alone by process %d", process.pid, extra=about)
            if self._draining:
                self._send_drain(process)
            await self._wait_for_end(process)
            if process.exitcode:
                logger.warning("process %d ended with status %s", process.pid, process.exitcode, extra=about)
        except asyncio.CancelledError:
            with suppress(TimeoutError):
                async with asyncio.timeout(get_settings().drain_seconds + LAST_SECONDS):
                    await asyncio.shield(starting)
                    self._send_drain(process)
                    await self._wait_for_end(process)
            raise
        finally:
            self._processes.discard(process)
            self._told.discard(process)
            # Called at once, unless a second cancel has come while the process is still being started.
            starting.add_done_callback(lambda _: _kill_group(process))

    def drain(self) -> None:
        """Have every process give its run back at its next step boundary, also one that is still being started."""
        self._draining = True
        for process in self._processes:
            self._send_drain(process)

    def _send_drain(self, process: ForkServerProcess) -> None:
        """Send the signal that drains a process; once told, it is told again until it ends."""
        self._told.add(process)
        if process.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)

    async def _wait_for_end(self, process: ForkServerProcess) -> None:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(process.sentinel, ended.set)
        try:
            while not ended.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), AGAIN_SECONDS)
                if process in self._told and not ended.is_set():
                    self._send_drain(process)  # Python forgets a signal that comes while the process is forked
        finally:
            loop.remove_reader(process.sentinel)
        process.join(0)  # else multiprocessing keeps it, and its pipes, until the next one begins

    def kill(self) -> None:
        """End every process, and what it has started, at once."""
        for process in self._processes:
            _kill_group(process)


def drive_forked(run_id: str) -> None:
    """Drive a run as the only one of this process, which leads its own group; the process ends after it."""
    os.setsid()
    threading.Thread(target=_die_with_worker, name="agentcore-parent", daemon=True).start()
    try:
        execute_run(run_id)
    except BaseException:
        logger.exception("a run driven alone was dropped", extra=log_extra("dropped", run_id))
        leave(1)  # not by the interpreter's own exit: a tool's thread may never end
    leave(0)


def _die_with_worker() -> None:
    """Kill this process and all it has started once its worker is gone: the server it was forked from lives on."""
    worker = multiprocessing.parent_process()
    if worker is not None:
        wait([worker.sentinel])
        os.killpg(0, signal.SIGKILL)


def leave(status: int) -> NoReturn:
    """End this process at once; the interpreter's own exit would wait for its threads."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(status)


def remove_socket() -> None:
    """Remove the server's socket, before a process ends without the interpreter's exit, which would remove it."""
    shutil.rmtree(util.get_temp_dir(), ignore_errors=True)


def _kill_group(process: ForkServerProcess) -> None:
    """Kill whatever is left of a process, which leads its own group."""
    if process.pid is not None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
