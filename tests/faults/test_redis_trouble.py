"""A Redis that stalls, forgets, is full or is stuffed with rubbish: hints are late or doubled, and runs are neither."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import AbstractUser
from redis import Redis
from rq import Queue

from agentcore.jobs.single import execute_run
from agentcore.models import Run
from agentcore.services import dispatch
from agentcore.services.sweep import sweep
from agentcore.testing import FaultProxy
from supportdemo.servers import start_redis
from tests.faults.browser import Browser
from tests.faults.openings import listening, wait_for_text
from tests.faults.runs import LONG, assert_log_is_whole, send, settings_of_process, status, wait_for_success
from tests.stack import Stack, wait_for
from tests.testapp import agents

PAUSE = 8.0  # seconds, longer than anybody is patient
AT_ONCE = 4.0  # seconds in which a request that needs no Redis is answered, on a machine that is busy


@pytest.fixture
def redis(outage_stack: Stack) -> Iterator[Redis]:
    """The stack's own Redis."""
    assert outage_stack.redis is not None
    with Redis.from_url(outage_stack.redis.url) as client:
        yield client


def hints_of(run: Run, redis: Redis) -> list[str]:
    """The jobs that wait in the queue for one run."""
    return [name for name in Queue("agentcore", connection=redis).job_ids if run.pk.hex in name]


def assert_ran_once(run: Run) -> None:
    wait_for_success(run)
    assert Run.objects.get(pk=run.pk).attempt == 1


@pytest.mark.covers("fault:R4")
def test_a_hint_that_a_stalled_redis_takes_twice_runs_once(
    outage_stack: Stack, make_thread: Callable[..., Any], redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert outage_stack.redis is not None
    server, push = outage_stack.redis.process, Queue.push_job_id

    def stall_first(queue: Queue, *args: Any, **kwargs: Any) -> Any:
        server.send_signal(signal.SIGSTOP)  # what is pushed now lies in the socket until Redis goes on
        return push(queue, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Queue, "push_job_id", stall_first)
        run = send(agents.careful_bee, make_thread("careful_bee"))
    server.send_signal(signal.SIGCONT)
    wait_for(lambda: hints_of(run, redis), LONG, "the stalled hint to arrive")
    Run.objects.filter(pk=run.pk).update(dispatched_at=None)  # as when its grace is over
    sweep()
    assert len(hints_of(run, redis)) == 2
    worker = outage_stack.worker()
    assert_ran_once(run)
    wait_for(lambda: not hints_of(run, redis), LONG, "the second job to be taken")
    after = send(agents.echo, make_thread())
    wait_for_success(after)
    assert_ran_once(run)
    assert len(outage_stack.effects()) == 1 and worker.alive


@pytest.mark.own_workers
@pytest.mark.covers("fault:R7", "promise:P1")
def test_a_failover_to_a_replica_that_missed_the_last_writes_loses_no_run(
    outage_stack: Stack, make_thread: Callable[..., Any], redis: Redis, settings: LazySettings, tmp_path: Path
) -> None:
    assert outage_stack.redis is not None
    primary, replica = outage_stack.redis, start_redis(tmp_path / "replica")
    try:
        with Redis.from_url(replica.url) as standby, FaultProxy(primary.url) as address:
            standby.replicaof("127.0.0.1", primary.port)
            wait_for(lambda: standby.info("replication")["master_link_status"] == "up", LONG, "the replica to follow")
            settings.RQ_QUEUES = {"agentcore": {**settings.RQ_QUEUES["agentcore"], "URL": address.url}}
            sweeper = outage_stack.sweeper(REDIS_URL=address.url)
            worker = listening(outage_stack.worker(REDIS_URL=address.url))
            worker.freeze()  # so that the hint is still in the queue when the failover comes
            wait_for(lambda: redis.info("clients")["blocked_clients"] == 0, LONG, "Redis to give its last wait up")
            standby.replicaof("NO", "ONE")  # from here on it misses what is written
            run = send(agents.careful_bee, make_thread("careful_bee"))
            assert hints_of(run, redis) and not hints_of(run, standby)
            primary.process.kill()
            address._address = ("127.0.0.1", replica.port)
            address.reset()
            address.ok()
            worker.thaw()
            assert_ran_once(run)
            assert worker.alive and sweeper.alive and len(outage_stack.effects()) == 1
    finally:
        replica.stop()
        dispatch.forget()


@pytest.mark.covers("fault:R8", "promise:P1")
def test_a_paused_redis_holds_up_neither_requests_nor_the_run_that_is_driven(
    outage_stack: Stack, make_thread: Callable[..., Any], user: AbstractUser, redis: Redis
) -> None:
    browser = Browser.of(outage_stack.web().url, user)
    outage_stack.sweeper()
    worker = outage_stack.worker()
    driven, thread = send(agents.slow, make_thread("slow")), make_thread()
    wait_for_text(driven)
    redis.client_pause(int(PAUSE * 1000))
    over_at = time.monotonic() + PAUSE
    began = time.monotonic()
    assert browser.send(thread).status == 201
    assert browser.get(f"/agent/runs/{driven.pk}").status == 200
    assert time.monotonic() - began < AT_ONCE
    wait_for(lambda: status(driven) == "succeeded", PAUSE, "the driven run to succeed")
    assert time.monotonic() < over_at, "the pause was over before the run was"
    queued = thread.runs.get()
    assert_ran_once(driven)
    assert_ran_once(queued)
    assert worker.alive


@pytest.mark.covers("fault:R9", "promise:P1")
def test_a_redis_that_is_full_is_like_one_that_is_away(
    outage_stack: Stack, make_thread: Callable[..., Any], user: AbstractUser, redis: Redis
) -> None:
    browser, thread = Browser.of(outage_stack.web().url, user), make_thread()
    processes = [outage_stack.sweeper(), listening(outage_stack.worker())]
    redis.config_set("maxmemory-policy", "noeviction")
    redis.config_set("maxmemory", "1")
    began = time.monotonic()
    assert browser.send(thread).status == 201
    assert time.monotonic() - began < AT_ONCE
    run = thread.runs.get()
    # Either may be the one that sweeps: a concurrent worker does too.
    wait_for(lambda: any("hint not sent" in process.text for process in processes), LONG, "the sweep to find it full")
    assert status(run) == "pending"
    redis.config_set("maxmemory", "0")
    assert_ran_once(run)
    assert all(process.alive for process in processes)


@pytest.mark.longer
@pytest.mark.covers("fault:R10")
def test_a_queue_full_of_stale_ids_is_worked_off_and_gets_no_hint_more_than_its_due(
    outage_stack: Stack, make_thread: Callable[..., Any], redis: Redis
) -> None:
    stale = [f"run-{uuid4().hex}-{number:012x}" for number in range(100_000)]
    for start in range(0, len(stale), 10_000):
        redis.rpush("rq:queue:agentcore", *stale[start : start + 10_000])
    run = send(agents.echo, make_thread())
    outage_stack.sweeper(**settings_of_process(HINT_GRACE_SECONDS=0.5, SWEEP_SECONDS=0.25))
    looked_until = time.monotonic() + 3  # a dozen sweeps, in which the grace of half a second doubles with each hint
    wait_for(lambda: time.monotonic() > looked_until, 10, "some sweeps")
    assert 2 <= len(hints_of(run, redis)) <= 5
    outage_stack.worker()
    wait_for(lambda: status(run) == "succeeded", 400, "the run behind a hundred thousand stale ids")
    assert_log_is_whole(run)
    assert Run.objects.get(pk=run.pk).attempt == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.longer
@pytest.mark.covers("fault:R10")
def test_the_end_of_a_run_announces_the_run_behind_it_and_no_other(
    make_thread: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []
    parallel, queued = make_thread(), make_thread()
    runs = [send(agents.side_by_side, parallel, str(number)) for number in range(5)]
    first, second, _ = (send(agents.echo, queued, str(number)) for number in range(3))
    monkeypatch.setattr("agentcore.services.dispatch.enqueue", lambda *run_ids: not sent.extend(run_ids))
    assert execute_run(str(runs[0].pk)) == "ended" and sent == []
    assert execute_run(str(first.pk)) == "ended" and sent == [second.pk]
