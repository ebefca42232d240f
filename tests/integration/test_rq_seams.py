"""The contract with RQ: what the concurrent worker writes is what RQ's own worker would have written.

Its bookkeeping uses parts of RQ that are no public interface, so the range of
versions is pinned. When this fails on a newer RQ, look at `jobs/bookkeeping.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from typing import Any

import pytest
import rq
from django.conf import LazySettings
from redis import Redis
from rq import Queue, worker_registration
from rq.executions import Execution
from rq.job import Job
from rq.suspension import WORKERS_SUSPENDED
from rq.worker import BaseWorker, Worker

from agentcore.jobs.bookkeeping import Books
from agentcore.jobs.redis_client import twin
from tests.integration.rq_room import WORKER, concurrent_worker, described, put, queue_of, stock_worker

pytestmark = pytest.mark.once


@pytest.fixture
async def queue(settings: LazySettings) -> AsyncIterator[Queue]:
    """agentcore's queue in the run's Redis, emptied."""
    with Redis.from_url(settings.REDIS_URL) as client:
        client.flushall()
        yield queue_of(client)


def by_rq(queue: Queue, job: Job) -> tuple[dict[str, Any], dict[str, Any]]:
    """What RQ's own worker leaves in Redis during a job and after it."""
    worker = stock_worker(queue)
    worker.register_birth()
    queue.connection.lmove(queue.key, queue.intermediate_queue_key)
    execution = worker.prepare_execution(job)
    worker.prepare_job_execution(job, True)
    during = described(queue.connection, [job])
    worker._finalize_success(job, queue, execution, "nothing")
    worker.set_state("idle")
    return during, described(queue.connection, [job])


async def by_us(queue: Queue, job: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What ours leaves."""
    client = twin(queue.connection, patience=2)
    try:
        books = Books(concurrent_worker(queue), queue, client)
        await books.register_worker()
        await client.lmove(queue.key, queue.intermediate_queue_key)
        books.started(job)
        assert await books.write()
        during = described(queue.connection, [job])
        books.finished(job)
        assert await books.write()
        return during, described(queue.connection, [job])
    finally:
        await client.aclose()


async def test_what_is_written_of_a_job_is_what_rq_writes(queue: Queue) -> None:
    (job,) = put(queue)
    theirs = by_rq(queue, job)
    queue.connection.flushall()
    (job,) = put(queue)
    ours = await by_us(queue, job)
    for mine, expected in zip(ours, theirs, strict=True):
        assert mine == expected
    assert "rq:wip:agentcore" in ours[0] and "rq:wip:agentcore" not in ours[1]


async def test_a_worker_is_listed_and_unlisted_as_rq_does(queue: Queue) -> None:
    client = twin(queue.connection, patience=2)
    books = Books(concurrent_worker(queue), queue, client)
    await books.register_worker()
    (listed,) = Worker.all(queue=queue)
    assert (listed.name, listed.get_state(), listed.queue_names()) == (WORKER, "idle", ["agentcore"])
    await books.unregister_worker()
    assert Worker.all(queue=queue) == [] and Worker.all(connection=queue.connection) == []
    await client.aclose()


@pytest.mark.parametrize(
    "function, names",
    [
        (BaseWorker.__init__, {"queues", "name", "connection", "exception_handlers", "job_class", "queue_class",
                               "prepare_for_work", "serializer"}),
        (BaseWorker.handle_job_failure, {"job", "queue", "exc_string", "execution"}),
        (BaseWorker.cleanup_execution, {"job", "pipeline", "execution"}),
        (BaseWorker.set_state, {"state", "pipeline"}),
        (Execution.create, {"job", "ttl", "pipeline", "worker_name"}),
        (Execution.heartbeat, {"started_job_registry", "ttl", "pipeline"}),
        (Job.prepare_for_execution, {"worker_name", "pipeline"}),
        (worker_registration.register, {"worker", "pipeline"}),
        (worker_registration.unregister, {"worker", "pipeline"}),
    ],
)  # fmt: skip
def test_the_functions_of_rq_that_are_used_take_what_they_are_given(function: Any, names: set[str]) -> None:
    assert names <= set(inspect.signature(function).parameters)


def test_the_attributes_of_rq_that_are_used_are_there(queue: Queue) -> None:
    worker = stock_worker(queue)
    for name in ("executions", "executions_key", "_stopped_job_id", "job_monitoring_interval", "maintenance_interval",
                 "pubsub_channel_name", "successful_job_count", "_exc_handlers", "birth_date", "last_heartbeat",
                 "ip_address", "_stop_requested", "_horse_pid", "max_connection_wait_time"):  # fmt: skip
        assert hasattr(worker, name), name
    for method in ("serialize", "run_maintenance_tasks", "handle_exception", "setup_work_horse_signals",
                   "handle_warm_shutdown_request"):  # fmt: skip
        assert callable(getattr(Worker, method)), method
    assert queue.intermediate_queue_key == f"{queue.key}:intermediate" and WORKERS_SUSPENDED == "rq:suspended"


def test_this_is_the_rq_that_the_seams_were_read_from() -> None:
    assert rq.VERSION.split(".")[:2] == ["3", "0"]
