"""Fetches jobs from one queue, several at a time, by way of RQ's intermediate queue."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from redis import asyncio as aredis
from rq.exceptions import NoSuchJobError
from rq.queue import Queue
from rq.suspension import WORKERS_SUSPENDED

from ..services import dispatch
from ..values.logextra import log_extra
from .job import AgentcoreJob

logger = logging.getLogger("agentcore.jobs")

WAIT_SECONDS = 1.0
# The fields of a job that are read; reading all of them would cost more than everything else here.
FIELDS = ("data", "origin", "timeout")


class Inbox:
    """The jobs of one queue.

    An idle wait is short and never broken off: an id that Redis has handed out
    on a connection that nobody reads any more would be a lost hint.
    """

    def __init__(self, queue: Queue, job_class: type[AgentcoreJob], client: aredis.Redis) -> None:
        self._queue = queue
        self._job_class = job_class
        self._client = client
        self.suspended = False

    async def fetch_jobs(self, most: int, *, wait: bool = True) -> list[AgentcoreJob]:
        """Return up to `most` jobs; none where none came within the wait, or the workers are suspended."""
        queue, intermediate = self._queue.key, self._queue.intermediate_queue_key
        pipeline: Any = self._client.pipeline(transaction=False)
        if wait:
            pipeline.blmove(queue, intermediate, WAIT_SECONDS)
        else:
            pipeline.lmove(queue, intermediate)
        # Redis answers these once it has answered that: no round trip stands between a hint and its run.
        pipeline.exists(WORKERS_SUSPENDED)
        pipeline.llen(queue)
        first, suspended, left = await pipeline.execute()
        self.suspended = bool(suspended)
        if first is None:
            return []
        ids = [first]
        if suspended:
            await self._return(ids)
            return []
        if left and most > 1:
            for _ in range(min(left, most - 1)):
                pipeline.lmove(queue, intermediate)
            ids += [found for found in await pipeline.execute() if found is not None]
        return await self._jobs([found.decode() for found in ids])

    async def check_suspended(self) -> bool:
        """Return whether an operator has suspended the workers of this Redis."""
        self.suspended = bool(await self._client.exists(WORKERS_SUSPENDED))
        return self.suspended

    async def return_jobs(self, jobs: list[AgentcoreJob]) -> None:
        """Put jobs that were fetched and not started back in front of the queue."""
        await self._return([job.id for job in jobs])

    async def _return(self, ids: Sequence[bytes | str]) -> None:
        pipeline: Any = self._client.pipeline(transaction=True)
        for job_id in reversed(ids):
            pipeline.lrem(self._queue.intermediate_queue_key, 1, job_id)
            pipeline.lpush(self._queue.key, job_id)
        await pipeline.execute()

    async def _jobs(self, ids: list[str]) -> list[AgentcoreJob]:
        """Return the jobs of these ids; one whose id names its run is not read."""
        jobs, others = [], []
        for job_id in ids:
            run_id = dispatch.run_of_job(job_id)
            if run_id is None:
                others.append(job_id)
            else:
                jobs.append(self._job_class.unread(job_id, run_id, self._queue))
        return jobs + await self._read_jobs(others)

    async def _read_jobs(self, ids: list[str]) -> list[AgentcoreJob]:
        pipeline: Any = self._client.pipeline(transaction=False)
        for job_id in ids:
            pipeline.hmget(self._job_class.key_for(job_id), FIELDS)
        jobs, gone = [], []
        for job_id, raw in zip(ids, await pipeline.execute(), strict=True):
            job = self._job_class(job_id, connection=self._queue.connection, serializer=self._queue.serializer)
            try:
                job.restore(
                    {name.encode(): value for name, value in zip(FIELDS, raw, strict=True) if value is not None}
                )
            except NoSuchJobError:
                gone.append(job_id)
            except Exception:
                logger.exception("a job cannot be read; dropped", extra=log_extra("job_unreadable"))
                gone.append(job_id)
            else:
                jobs.append(job)
        for job_id in gone:
            pipeline.lrem(self._queue.intermediate_queue_key, 1, job_id)
        if gone:
            await pipeline.execute()
        return jobs
