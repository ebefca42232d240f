"""The worker class: JSON and agentcore's jobs whatever the command line says, and patience with Redis."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import django_rq.workers
import pytest
import rq.job
from django.conf import LazySettings
from redis import Redis
from rq.serializers import JSONSerializer
from rq.worker import WorkerStatus

from agentcore.jobs.concurrent import ConcurrentWorker
from agentcore.jobs.job import AgentcoreJob
from agentcore.jobs.worker import AgentcoreWorker
from supportdemo.servers import RedisServer, start_redis

pytestmark = pytest.mark.once


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis the test may stop."""
    running = start_redis(tmp_path)
    yield running
    running.stop()


@pytest.fixture
def worker(server: RedisServer, settings: LazySettings) -> Iterator[AgentcoreWorker]:
    """A worker as django-rq makes it of a command line that names the worker class alone."""
    settings.RQ_QUEUES = {"agentcore": {"URL": server.url}}
    made = django_rq.workers.get_worker(
        "agentcore",
        worker_class="agentcore.jobs.worker.AgentcoreWorker",
        serializer="rq.serializers.DefaultSerializer",
    )
    yield made
    made.connection.close()
    for queue in made.queues:
        queue.connection.close()


@pytest.mark.covers("dj:RQ-1", "threat:T26")
def test_it_reads_json_and_runs_only_our_jobs_whatever_the_command_line_gives(worker: AgentcoreWorker) -> None:
    assert isinstance(worker, AgentcoreWorker)
    for reader in (worker, *worker.queues):
        assert reader.job_class is AgentcoreJob and reader.serializer is JSONSerializer


def test_a_job_class_of_ours_is_kept(server: RedisServer) -> None:
    class Stricter(AgentcoreJob):
        pass

    with Redis.from_url(server.url) as client:
        assert AgentcoreWorker(["agentcore"], connection=client, job_class=Stricter).job_class is Stricter
        assert AgentcoreWorker(["agentcore"], connection=client, job_class=rq.job.Job).job_class is AgentcoreJob


def test_a_request_to_stop_that_comes_when_a_job_is_put_away_is_not_waited_past(
    worker: AgentcoreWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = []
    really = worker.dequeue_job_and_maintain_ttl

    def asked_to_stop_first(*args: Any) -> Any:
        monkeypatch.undo()
        monkeypatch.setattr(worker.queue_class, "dequeue_any", lambda *args, **kwargs: waited.append(args))
        worker._state = WorkerStatus.BUSY  # as it is until RQ notes that it is idle
        worker.request_stop(signal.SIGTERM, None)
        return really(*args)

    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr(worker, "dequeue_job_and_maintain_ttl", asked_to_stop_first)
    try:
        worker.work()
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), handlers, strict=True):
            signal.signal(number, handler)
    assert waited == []


@pytest.mark.covers("fault:R6")
def test_a_heartbeat_that_cannot_be_sent_does_not_end_the_job(
    worker: AgentcoreWorker, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.stop()
    job: Any = SimpleNamespace(started_at=None, timeout=10, started_job_registry=None, heartbeat=lambda *a, **k: None)
    execution: Any = SimpleNamespace(heartbeat=lambda *a, **k: None)
    with caplog.at_level(logging.WARNING, logger="agentcore.jobs"):
        worker.maintain_heartbeats(job, execution)
    assert "no heartbeat" in caplog.text


@pytest.mark.covers("fault:R6")
def test_a_worker_told_to_stop_does_not_wait_for_redis(worker: AgentcoreWorker, server: RedisServer) -> None:
    server.stop()
    worker._stop_requested = True
    worker._wait_for_redis()


@pytest.mark.covers("dj:RQ-3")
@pytest.mark.parametrize("kind", [AgentcoreWorker, ConcurrentWorker])
def test_it_listens_to_one_queue_and_says_why(server: RedisServer, kind: Any) -> None:
    with Redis.from_url(server.url) as client:
        for queues in (["agentcore", "other"], []):
            with pytest.raises(ValueError, match="one queue: from several, a job can be lost"):
                kind(queues, connection=client)
