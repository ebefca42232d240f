"""A Redis with agentcore's queue in it, and what RQ itself would leave there."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

from redis import Redis
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.worker import SimpleWorker

from agentcore.jobs.concurrent import ConcurrentWorker
from agentcore.jobs.job import AgentcoreJob
from agentcore.services import dispatch

WORKER = "the-worker"


def queue_of(client: Redis) -> Queue:
    """agentcore's queue, read as its workers read it."""
    return Queue("agentcore", connection=client, serializer=JSONSerializer, job_class=AgentcoreJob)


def put(queue: Queue, count: int = 1) -> list[Job]:
    """Hints for runs that are not there, as `dispatch` sends them."""
    for _ in range(count):
        assert dispatch.enqueue(uuid4())
    return queue.jobs[-count:]


def left_of_jobs(queue: Queue) -> set[str]:
    """The keys that jobs have left, but for RQ's own notes of what its upkeep has come across."""
    keys = {key.decode() for key in queue.connection.keys()}
    return {key for key in keys if "run-" in key and "first_seen" not in key}


def stock_worker(queue: Queue) -> SimpleWorker:
    """RQ's own worker, for comparison."""
    return SimpleWorker(
        [queue], name=WORKER, connection=queue.connection, job_class=AgentcoreJob, serializer=JSONSerializer
    )


def concurrent_worker(queue: Queue, concurrency: int = 5) -> ConcurrentWorker:
    """Ours, without a sweeper: these tests have no database."""
    return ConcurrentWorker([queue], name=WORKER, connection=queue.connection, concurrency=concurrency)


@asynccontextmanager
async def at_work(worker: ConcurrentWorker) -> AsyncIterator[asyncio.Task[None]]:
    """The worker working on this loop, and told to stop at the end."""
    task = asyncio.create_task(worker._work(burst=False))
    await asyncio.sleep(0)
    try:
        yield task
    finally:
        if not task.done() and not worker._stopping.is_set():
            worker.shut_down()
        await asyncio.wait_for(task, 20)


async def until(predicate: Callable[[], Any], what: str, seconds: float = 10) -> Any:
    """Wait for a true answer without holding the loop up."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not (answer := predicate()):
        assert asyncio.get_running_loop().time() < deadline, f"waited {seconds} s for {what}"
        await asyncio.sleep(0.02)
    return answer


class Drives:
    """Stands for the engine: notes what is driven, and lets go when told to."""

    def __init__(self) -> None:
        self.now: list[UUID] = []
        self.begun: list[UUID] = []
        self.most = 0
        self.free = asyncio.Event()
        self.interrupted: list[UUID] = []

    async def adrive(self, run_id: UUID, runtime: Any = None) -> str:
        """Drive, in place of `execution.adrive`."""
        self.begun.append(run_id)
        self.now.append(run_id)
        self.most = max(self.most, len(self.now))
        try:
            await self.free.wait()
        except asyncio.CancelledError:
            self.interrupted.append(run_id)
            raise
        finally:
            self.now.remove(run_id)
        return "nothing"


def described(client: Redis, jobs: list[Job]) -> dict[str, Any]:
    """What Redis holds, with the names that differ from time to time replaced."""
    found: dict[str, Any] = {}
    for raw in sorted(client.keys("rq:*")):
        key = raw.decode()
        kind = client.type(raw).decode()
        value: Any = None
        if kind == "hash":
            value = sorted(name.decode() for name in client.hkeys(raw))
        elif kind == "zset":
            value = sorted(_plain(member.decode(), jobs) for member, _ in client.zscan_iter(raw))
        elif kind == "set":
            value = sorted(_plain(member.decode(), jobs) for member in client.smembers(raw))
        elif kind == "list":
            value = [_plain(member.decode(), jobs) for member in client.lrange(raw, 0, -1)]
        found[_plain(key, jobs)] = (kind, value, client.ttl(raw) > 0)
    return found


def _plain(text: str, jobs: list[Job]) -> str:
    for number, job in enumerate(jobs):
        text = text.replace(job.id, f"<job {number}>")
    return re.sub(r"\b[0-9a-f]{32}\b", "<execution>", text)
