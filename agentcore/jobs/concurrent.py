"""The RQ worker that drives many runs on one event loop, and sweeps."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import uuid
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any
from uuid import UUID

import django_rq.workers
from rq.exceptions import StopRequested
from rq.serializers import JSONSerializer
from rq.timeouts import JobTimeoutException
from rq.worker import BaseWorker

from ..conf import get_settings
from ..engine.drive import Outcome
from ..engine.runtime import Runtime, this_worker
from ..failpoints import afailpoint
from ..services import execution
from ..streams import hints
from ..values.logextra import log_extra
from .bookkeeping import Books
from .commands import obey
from .forked import ForkedRuns
from .inbox import Inbox
from .job import AgentcoreJob, only_ours
from .prefork import make_models
from .redis_client import AWAY, twin
from .sweeper import Sweeper
from .watchdog import STUCK_STATUS, Watchdog

logger = logging.getLogger("agentcore.jobs")

DEFAULT_CONCURRENCY = 25
REDIS_PATIENCE = 3.0
PAUSE_SECONDS = 1.0
LAST_SECONDS = 5.0
FORCED_STATUS = 1


class ConcurrentWorker(BaseWorker):
    """An RQ worker of one queue that drives up to `concurrency` runs at a time, each a task of one event loop.

    RQ's part of a job is a few lines in its books (see `Books`): nothing waits for
    it, and a Redis that is away stops neither the runs nor the sweep. A job has no
    alarm clock; the engine's own limits end a step long before RQ's deadline, at
    which the run is given back. A first SIGTERM or SIGINT drains, a second ends.
    """

    job_class = AgentcoreJob

    def __init__(self, queues: Any, *args: Any, concurrency: int = DEFAULT_CONCURRENCY, **kwargs: Any) -> None:
        # Redis may be away when the process starts; what needs it is done when it is there.
        super().__init__(queues, *args, **{**only_ours(kwargs), "prepare_for_work": False})
        if len(self.queues) != 1:
            raise ValueError("A worker of many runs listens to one queue: from several, a job can be lost.")
        self.hostname, self.pid = socket.gethostname(), os.getpid()
        self.name = kwargs.get("name") or f"{self.hostname}.{self.pid}.{uuid.uuid4().hex[:8]}"
        self.concurrency = concurrency
        self.exit_status = 0
        (self._queue,) = self.queues
        self._queue.job_class, self._queue.serializer = self.job_class, self.serializer
        self._tasks: dict[asyncio.Task[None], AgentcoreJob] = {}
        self._told_to_stop: set[str] = set()

    def work(self, burst: bool = False, *args: Any, **kwargs: Any) -> bool:
        """Work until told to stop, or, with `burst`, until the queue is empty; returns whether anything was done."""
        make_models()  # what they need takes seconds to load, in which the loop would stand still
        loop = asyncio.new_event_loop()
        gc.collect()
        gc.freeze()  # what is loaded by now stays; looking at it again and again costs a tenth of the worker's time
        try:
            loop.run_until_complete(self._working(burst=burst))
        finally:
            loop.close()  # not `asyncio.run`, which would wait for every thread
        return self.successful_job_count > 0

    # --- the loop ------------------------------------------------------------------------------------------------

    async def _working(self, *, burst: bool) -> None:
        async with hints.sent_from_this_loop():
            await self._work(burst=burst)

    async def _work(self, *, burst: bool) -> None:
        self._client = twin(self.connection, patience=REDIS_PATIENCE)
        self._books = Books(self, self._queue, self._client)
        self._inbox = Inbox(self._queue, self.job_class, self._client)
        self._forked = ForkedRuns()
        self._forked.start_server()
        self._changed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._runtime = Runtime(this_worker(), alone=False, own_threads=True)
        sweeper = Sweeper(this_worker())
        self._install_signal_handlers()
        helpers = [asyncio.create_task(helper) for helper in self._helpers()]
        for helper in helpers:
            helper.add_done_callback(_log_helper_end)
        sweeper.start()
        try:
            await self._fetch_and_start_jobs(burst=burst)
            await self._wait_for_runs(burst=burst)
        finally:
            sweeper.stop()
            await _cancel_tasks(helpers)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._runtime.aclose(), LAST_SECONDS)
            await self._sign_off()
            await asyncio.to_thread(sweeper.join, LAST_SECONDS)

    def _helpers(self) -> list[Coroutine[Any, Any, None]]:
        dog = Watchdog(
            get_settings().watchdog_seconds,
            self._runtime.threads.stuck,
            self._make_way_for_a_new_process,
        )
        books = self._books
        return [dog.watch(), books.keep_writing(), books.beat(), books.maintain(), obey(self, self._client)]

    async def _fetch_and_start_jobs(self, *, burst: bool) -> None:
        """Fetch jobs and start them, as many at a time as there is room for, until told to stop."""
        logger.info(
            "Listening on %s, %d runs at a time", self._queue.name, self.concurrency, extra=log_extra("listening")
        )
        away = False
        while not self._stopping.is_set():
            try:
                if away:
                    await self._books.register_worker()
                    logger.info("Redis is back", extra=log_extra("redis_back"))
                    away = False
                if self._inbox.suspended and await self._inbox.check_suspended():
                    await self._pause()
                    continue
                jobs = await self._inbox.fetch_jobs(self.concurrency - len(self._tasks), wait=not burst)
            except AWAY as error:
                if not away:
                    logger.warning("Redis is away: %s", error, extra=log_extra("redis_away"))
                away = True
                await self._pause()
                continue
            if self._stopping.is_set() and jobs:
                with suppress(*AWAY):
                    await self._inbox.return_jobs(jobs)
                return
            for job in jobs:
                self._start_job(job)
            if burst and not jobs and not self._tasks:
                return
            await self._wait_for_room(one_less=burst and not jobs)

    async def _wait_for_room(self, *, one_less: bool) -> None:
        """Wait until there is room for another run, or with `one_less` until a run has ended, or until told to stop."""
        full = len(self._tasks) if one_less else self.concurrency
        while len(self._tasks) >= full and not self._stopping.is_set():
            self._changed.clear()
            await self._changed.wait()

    def _start_job(self, job: AgentcoreJob) -> None:
        self._books.started(job)
        task = asyncio.create_task(self._run_job(job))
        self._tasks[task] = job
        task.add_done_callback(self._forget_task)

    def _forget_task(self, task: asyncio.Task[None]) -> None:
        job = self._tasks.pop(task)
        self._told_to_stop.discard(job.id)
        self._changed.set()

    # --- one job -------------------------------------------------------------------------------------------------

    async def _run_job(self, job: AgentcoreJob) -> None:
        try:
            run_id = job.run_id
            await afailpoint("job_entry")
            async with asyncio.timeout(job.timeout if job.timeout and job.timeout > 0 else None) as deadline:
                await self._drive_run(run_id)
        except asyncio.CancelledError:
            if job.id not in self._told_to_stop:
                self._books.finished(job)
                return
            await self._books.failed(job, StopRequested("Job stopped by an operator; its run goes on."), stopped=True)
        except TimeoutError as error:
            failure = JobTimeoutException("The run was given back at RQ's deadline.") if deadline.expired() else error
            await self._books.failed(job, failure)
        except Exception as error:
            await self._books.failed(job, error)
        else:
            self.successful_job_count += 1
            self._books.finished(job)

    async def _drive_run(self, run_id: UUID) -> None:
        outcome = await execution.adrive(run_id, self._runtime)
        if outcome is Outcome.SUSPECT:
            await self._forked.drive(run_id)
        elif outcome is Outcome.LOST:
            logger.warning("a run was lost", extra=log_extra("lost", run_id))

    # --- stopping ------------------------------------------------------------------------------------------------

    def _install_signal_handlers(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            with suppress(ValueError, RuntimeError):  # not the main thread: whoever owns it has signals of its own
                loop.add_signal_handler(number, self.shut_down)

    def shut_down(self) -> None:
        """Stop fetching jobs and have every run given back at its next step boundary; the second time, end."""
        if self._stopping.is_set():
            logger.warning("told twice; leaving at once", extra=log_extra("forced"))
            self._forked.kill()
            os._exit(FORCED_STATUS)
        logger.info("draining %d runs", len(self._tasks), extra=log_extra("draining"))
        self._stop_requested = True
        self._stopping.set()
        self._changed.set()
        self._runtime.drain()
        self._forked.drain()

    def _make_way_for_a_new_process(self) -> None:
        if not self._stopping.is_set():
            self.exit_status = STUCK_STATUS
            self.shut_down()

    async def _wait_for_runs(self, *, burst: bool) -> None:
        """Wait for the runs to be given back; what has not reached a step boundary in time is handed over as it is."""
        if self._tasks:
            unhurried = burst and not self._stopping.is_set()
            await asyncio.wait(self._tasks, timeout=None if unhurried else get_settings().drain_seconds)
        await _cancel_tasks(list(self._tasks), LAST_SECONDS)

    async def _sign_off(self) -> None:
        with suppress(*AWAY):
            await self._books.unregister_worker()
        await self._client.aclose()

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), PAUSE_SECONDS)

    # --- what RQ's operators see and say -------------------------------------------------------------------------

    def stop_job(self, job_id: str) -> None:
        """Stop driving one job's run; the run is not canceled but given back."""
        for task, job in self._tasks.items():
            if job.id == job_id:
                self._told_to_stop.add(job_id)
                task.cancel()
                return
        logger.warning("not working on job %s", job_id, extra=log_extra("command"))

    def stop_all_jobs(self) -> None:
        """Stop driving every run."""
        for job in list(self._tasks.values()):
            self.stop_job(job.id)


def _log_helper_end(task: asyncio.Task[None]) -> None:
    """Log the error that has ended a helper, which was to go on for ever."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("a part of the worker has ended", exc_info=error, extra=log_extra("helper_ended"))


async def _cancel_tasks(tasks: list[asyncio.Task[None]], seconds: float = PAUSE_SECONDS) -> None:
    """Cancel tasks and wait for their end, not for ever: a library may swallow a cancel."""
    left = set(tasks)
    for _ in range(2):
        for task in left:
            task.cancel()
        if left:
            _, left = await asyncio.wait(left, timeout=seconds)


def build(queue: str, *, concurrency: int, name: str | None = None) -> ConcurrentWorker:
    """Return a worker of one of the queues in `RQ_QUEUES`, with the project's exception handlers."""
    found = django_rq.get_queue(queue, job_class=AgentcoreJob, serializer=JSONSerializer)
    handlers = django_rq.workers.get_exception_handlers()  # type: ignore[no-untyped-call]
    return ConcurrentWorker(
        [found],
        name=name,
        connection=found.connection,
        queue_class=type(found),
        exception_handlers=handlers or None,
        concurrency=concurrency,
    )
