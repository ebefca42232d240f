"""The concurrent worker's Redis: which one it is, and that it goes away, is full or emptied, and comes back."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from redis import Redis, SSLConnection, UnixDomainSocketConnection
from redis import asyncio as aredis
from redis.sentinel import Sentinel
from rq import Queue
from rq.worker import Worker

from agentcore.jobs import concurrent
from agentcore.jobs.redis_client import twin
from supportdemo.servers import RedisServer, start_redis
from tests.integration.rq_room import Drives, at_work, concurrent_worker, left_of_jobs, put, until

pytestmark = pytest.mark.once


@pytest.mark.covers("fault:R6")
async def test_runs_go_on_without_redis_and_new_jobs_are_taken_soon_after_it_is_back(
    queue: Queue, drives: Drives, server: RedisServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(queue)
    async with at_work(concurrent_worker(queue)) as working:
        await until(lambda: drives.now, "the run")
        with caplog.at_level(logging.WARNING, logger="agentcore.jobs"):
            server.stop()
            await until(lambda: "Redis is away" in caplog.text, "the outage to be noticed")
        assert len(drives.now) == 1
        again = start_redis(tmp_path, server.port)
        try:
            put(queue)
            await until(lambda: len(drives.begun) == 2, "the next job", seconds=5)
            (seen,) = await until(lambda: Worker.all(queue=queue), "RQ to know the worker again", seconds=5)
            assert seen.get_state() == "busy"
            drives.free.set()
            await until(lambda: not drives.now, "both runs")
            await until(lambda: left_of_jobs(queue) == set(), "the books")
            assert not working.done()
        finally:
            again.stop()


@pytest.mark.covers("fault:R9")
async def test_a_redis_without_memory_is_waited_for_like_one_that_is_away(
    queue: Queue, drives: Drives, caplog: pytest.LogCaptureFixture
) -> None:
    drives.free.set()
    async with at_work(concurrent_worker(queue)) as working:
        await until(lambda: Worker.all(queue=queue), "the worker to be listed")
        with caplog.at_level(logging.WARNING, logger="agentcore.jobs"):
            queue.connection.config_set("maxmemory", "1")
            await until(lambda: "Redis is away" in caplog.text, "the refusal to be noticed")
        queue.connection.config_set("maxmemory", "0")
        put(queue)
        await until(lambda: drives.begun, "the run", seconds=5)
        await until(lambda: left_of_jobs(queue) == set(), "the books")
        assert not working.done()


async def test_a_worker_starts_without_redis_and_stops_without_it(
    queue: Queue, drives: Drives, server: RedisServer
) -> None:
    server.stop()
    async with at_work(concurrent_worker(queue)) as working:
        await asyncio.sleep(0.5)
        assert not working.done()


@pytest.mark.covers("fault:R5")
async def test_after_flushall_a_job_that_was_running_leaves_nothing_behind(queue: Queue, drives: Drives) -> None:
    (job,) = put(queue)
    worker = concurrent_worker(queue)
    async with at_work(worker):
        await until(lambda: job.get_status(refresh=True) == "started", "the job")
        queue.connection.flushall()
        await worker._books.register_worker()
        assert [seen.name for seen in Worker.all(queue=queue)] == [worker.name]
        drives.free.set()
        await until(lambda: not drives.now, "the run")
    assert left_of_jobs(queue) == set()


def test_its_client_has_the_address_and_the_credentials_of_the_queues() -> None:
    plain = twin(Redis.from_url("redis://user:secret@host:1234/5"), patience=3)
    kwargs = plain.connection_pool.connection_kwargs
    assert {key: kwargs[key] for key in ("host", "port", "db", "username", "password", "socket_timeout")} == {
        "host": "host", "port": 1234, "db": 5, "username": "user", "password": "secret", "socket_timeout": 3
    }  # fmt: skip
    secure = twin(Redis.from_url("rediss://host/0?ssl_cert_reqs=none"), patience=3).connection_pool
    assert secure.connection_class is aredis.SSLConnection
    assert secure.connection_kwargs["ssl_cert_reqs"] == "none"
    local = twin(Redis.from_url("unix:///run/redis.sock"), patience=3).connection_pool
    assert local.connection_class is aredis.UnixDomainSocketConnection
    assert local.connection_kwargs["path"] == "/run/redis.sock"
    assert {SSLConnection, UnixDomainSocketConnection} <= set(concurrent.twin.__globals__["TWINS"])


def test_a_redis_behind_a_sentinel_is_refused_with_a_way_out() -> None:
    master = Sentinel([("localhost", 1)]).master_for("mymaster")
    with pytest.raises(ImproperlyConfigured, match=r"AgentcoreWorker"):
        twin(master, patience=3)
