"""Fetches jobs from one queue, several at a time, by way of RQ's intermediate queue."""

from __future__ import annotations

import logging
from typing import Any

from redis import asyncio as aredis
from rq.exceptions import NoSuchJobError
from rq.queue import Queue
from rq.suspension import WORKERS_SUSPENDED

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
        """Return up to `most` jobs; none where none came within the wait."""
        client: Any = self._client
        queue, intermediate = self._queue.key, self._queue.intermediate_queue_key
        if wait:
            first = await client.blmove(queue, intermediate, WAIT_SECONDS)
        else:
            first = await client.lmove(queue, intermediate)
        if first is None:
            self.suspended = bool(await client.exists(WORKERS_SUSPENDED))
            return []
        pipeline = client.pipeline(transaction=False)
        pipeline.exists(WORKERS_SUSPENDED)
        pipeline.llen(queue)
        suspended, left = await pipeline.execute()
        self.suspended = bool(suspended)
        ids = [first]
        if left and most > 1 and not suspended:
            for _ in range(min(left, most - 1)):
                pipeline.lmove(queue, intermediate)
            ids += [found for found in await pipeline.execute() if found is not None]
        return await self._read_jobs([found.decode() for found in ids])

    async def check_suspended(self) -> bool:
        """Return whether an operator has suspended the workers of this Redis."""
        self.suspended = bool(await self._client.exists(WORKERS_SUSPENDED))
        return self.suspended

    async def return_jobs(self, jobs: list[AgentcoreJob]) -> None:
        """Put jobs that were fetched and not started back in front of the queue."""
        pipeline: Any = self._client.pipeline(transaction=True)
        for job in reversed(jobs):
            pipeline.lrem(self._queue.intermediate_queue_key, 1, job.id)
            pipeline.lpush(self._queue.key, job.id)
        await pipeline.execute()

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
