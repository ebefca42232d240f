"""What RQ wants to know of many jobs at once: started, ended, alive; written in batches, never waited for.

A job is only a hint, and no run needs what is written here. It keeps RQ's own view
right: its registries, its list of workers, `rq info` and the admin pages.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from redis import asyncio as aredis
from rq import worker_registration
from rq.exceptions import NoSuchJobError
from rq.executions import Execution
from rq.job_lifecycle import format_exc_info
from rq.queue import Queue
from rq.utils import now, utcformat
from rq.worker import BaseWorker, WorkerStatus

from ..values.logextra import log_extra
from .job import AgentcoreJob
from .redis_client import AWAY

logger = logging.getLogger("agentcore.jobs")

GATHER_SECONDS = 0.05
PAUSE_SECONDS = 1.0
MOST_KEPT = 10_000


@dataclass(eq=False)
class Entry:
    """One job that this worker has started."""

    job: AgentcoreJob
    execution: Execution | None = None
    began: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    seconds: float = 0.0


class Books:
    """Notes down what becomes of jobs; one that ends within the gathering time is never shown as started."""

    def __init__(self, worker: BaseWorker, queue: Queue, client: aredis.Redis) -> None:
        self._worker = worker
        self._queue = queue
        self._client = client
        self._open: dict[str, Entry] = {}
        self._new: dict[str, Entry] = {}
        self._done: list[Entry] = []
        self._state = ""
        self._news = asyncio.Event()
        self._failing = asyncio.Lock()

    @property
    def ttl(self) -> int:
        """How long RQ believes in this worker and its jobs without a heartbeat."""
        return int(self._worker.job_monitoring_interval) + 60

    def started(self, job: AgentcoreJob) -> None:
        """Note that a job has started; one whose id a retrying client has pushed twice is one job."""
        if job.id in self._open:
            return
        self._open[job.id] = self._new[job.id] = Entry(job)
        self._news.set()

    def finished(self, job: AgentcoreJob) -> None:
        """Note that a job is done; RQ then keeps nothing of it."""
        entry = self._close(job)
        entry.seconds = asyncio.get_running_loop().time() - entry.began
        self._done.append(entry)
        self._news.set()

    async def failed(self, job: AgentcoreJob, error: BaseException, *, stopped: bool = False) -> None:
        """Note that a job failed, or was stopped by an operator, where RQ's pages show it; never raises."""
        entry = self._close(job)
        async with self._failing:  # RQ remembers a single stopped job
            try:
                await asyncio.to_thread(self._fail, entry, error, stopped=stopped)
            except Exception:
                logger.exception("RQ was not told of a failed job", extra=log_extra("job_failed"))

    def _close(self, job: AgentcoreJob) -> Entry:
        self._new.pop(job.id, None)
        return self._open.pop(job.id, None) or Entry(job)

    def _fail(self, entry: Entry, error: BaseException, *, stopped: bool) -> None:
        info = (type(error), error, error.__traceback__)
        with suppress(NoSuchJobError):
            # The inbox has read only a part of the job; the rest says how long RQ keeps its failure.
            entry.job.refresh()  # type: ignore[no-untyped-call]
        if stopped:
            self._worker._stopped_job_id = entry.job.id
        else:
            self._worker.handle_exception(entry.job, *info)
        entry.job.ended_at = now()
        self._worker.handle_job_failure(
            entry.job, self._queue, exc_string=format_exc_info(info), execution=entry.execution
        )
        self._queue.intermediate_queue.remove(entry.job.id)

    async def keep_writing(self) -> None:
        """Write the notes, for ever; while Redis is away it waits, and keeps the ends of jobs to write them later."""
        while True:
            await self._news.wait()
            await asyncio.sleep(GATHER_SECONDS)
            if not await self.write():
                await asyncio.sleep(PAUSE_SECONDS)

    async def write(self) -> bool:
        """Write everything noted so far in one exchange; returns whether Redis has it."""
        new, done = self._new, self._done
        self._new, self._done = {}, []
        self._news.clear()
        state = WorkerStatus.BUSY if self._open else WorkerStatus.IDLE
        if not new and not done and state == self._state:
            return True
        pipeline: Any = self._client.pipeline(transaction=False)
        for entry in new.values():
            self._start(entry, pipeline)
        for entry in done:
            self._end(entry, pipeline)
        if done:
            pipeline.hincrby(self._worker.key, "successful_job_count", len(done))
            pipeline.hincrbyfloat(self._worker.key, "total_working_time", sum(entry.seconds for entry in done))
        self._worker.set_state(state, pipeline=pipeline)
        try:
            await pipeline.execute()
        except AWAY as error:
            logger.warning("RQ was not told: %s", error, extra=log_extra("redis_away"))
            # Only ends are kept: an end removes a job, but a late start would bring back one that Redis has forgotten.
            self._done = [*done, *self._done][-MOST_KEPT:]
            self._news.set()
            return False
        self._state = state
        return True

    def _start(self, entry: Entry, pipeline: Any) -> None:
        execution = Execution.create(entry.job, self.ttl, pipeline=pipeline, worker_name=self._worker.name)
        entry.execution = self._worker.executions[execution.id] = execution
        entry.job.prepare_for_execution(self._worker.name, pipeline=pipeline)
        pipeline.persist(entry.job.key)
        self._forget_pop(entry, pipeline)

    def _end(self, entry: Entry, pipeline: Any) -> None:
        if entry.execution is None:
            self._forget_pop(entry, pipeline)
        else:
            self._worker.cleanup_execution(entry.job, pipeline, execution=entry.execution)
        pipeline.delete(entry.job.key)

    def _forget_pop(self, entry: Entry, pipeline: Any) -> None:
        pipeline.lrem(self._queue.intermediate_queue_key, 1, entry.job.id)

    async def register_worker(self) -> None:
        """Tell RQ that this worker and its jobs are alive, as if for the first time: Redis may have forgotten."""
        worker = self._worker
        worker.last_heartbeat = now()
        worker.birth_date = worker.birth_date or worker.last_heartbeat
        self._state = WorkerStatus.BUSY if self._open else WorkerStatus.IDLE
        pipeline: Any = self._client.pipeline(transaction=False)
        pipeline.hset(worker.key, mapping={**worker.serialize(), "state": self._state})
        worker_registration.register(worker, pipeline)
        pipeline.expire(worker.key, self.ttl)
        pipeline.expire(worker.executions_key, self.ttl)
        for entry in self._open.values():
            if entry.execution is not None:
                entry.execution.heartbeat(entry.job.started_job_registry, self.ttl, pipeline=pipeline)
        await pipeline.execute()

    async def beat(self) -> None:
        """Tell RQ now and then that this worker and its jobs are alive, for ever."""
        while True:
            try:
                if self._worker.ip_address == "unknown":
                    self._worker.ip_address = str((await self._client.client_info())["addr"])
                await self.register_worker()
            except AWAY:
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                await asyncio.sleep(self._worker.job_monitoring_interval)

    async def maintain(self) -> None:
        """Have RQ clean its registries, as every worker does now and then, for ever."""
        while True:
            try:
                await asyncio.to_thread(self._worker.run_maintenance_tasks)
            except AWAY:
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            except Exception:
                logger.exception("RQ's maintenance failed", extra=log_extra("maintenance"))
            await asyncio.sleep(self._worker.maintenance_interval)

    async def unregister_worker(self) -> None:
        """Write what is left, and take this worker off RQ's list."""
        await self.write()
        pipeline: Any = self._client.pipeline(transaction=False)
        worker_registration.unregister(self._worker, pipeline)
        pipeline.hset(self._worker.key, "death", utcformat(now()))
        pipeline.expire(self._worker.key, 60)
        pipeline.delete(self._worker.executions_key)
        await pipeline.execute()
