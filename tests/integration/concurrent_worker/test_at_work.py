"""The worker that drives many runs on one loop: as many as it may, with RQ's view right, until it is told to stop."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command
from rq import Queue, suspension
from rq.command import send_kill_horse_command, send_shutdown_command, send_stop_job_command
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.worker import Worker

from agentcore.engine.threads import AppThreads
from agentcore.jobs import concurrent
from agentcore.jobs.concurrent import ConcurrentWorker
from agentcore.services import dispatch, execution
from supportdemo.servers import RedisServer
from tests.integration.rq_room import Drives, at_work, concurrent_worker, left_of_jobs, put, until

pytestmark = pytest.mark.once


def run_ids(jobs: list[Job]) -> list[UUID]:
    return [UUID(job.args[0]) for job in jobs]


async def test_as_many_runs_at_a_time_as_it_is_told_each_job_once_and_nothing_is_left(
    queue: Queue, drives: Drives
) -> None:
    jobs = put(queue, 7)
    worker = concurrent_worker(queue, concurrency=3)
    async with at_work(worker):
        await until(lambda: len(drives.now) == 3, "three drives")
        await asyncio.sleep(0.2)
        assert len(drives.begun) == 3 and len(queue.job_ids) == 4
        drives.free.set()
        await until(lambda: len(drives.begun) == 7, "the others")
    assert drives.begun == run_ids(jobs) and drives.most == 3
    assert worker.successful_job_count == 7
    assert left_of_jobs(queue) == set()


@pytest.mark.covers("dj:RQ-1")
async def test_rq_sees_what_is_running_and_counts_what_ended(queue: Queue, drives: Drives) -> None:
    (job,) = put(queue)
    async with at_work(concurrent_worker(queue)):
        await until(lambda: job.get_status(refresh=True) == "started", "the job to be shown as started")
        (seen,) = Worker.all(queue=queue)
        assert seen.get_state() == "busy" and seen.get_current_job_id() == job.id
        assert queue.started_job_registry.get_job_ids() == [job.id]
        drives.free.set()
        await until(lambda: not Job.exists(job.id, queue.connection), "the job to be gone")
        (seen,) = Worker.all(queue=queue)
        assert (seen.get_state(), seen.successful_job_count) == ("idle", 1)
        assert queue.started_job_registry.get_job_ids() == [] and seen.get_current_executions() == []
    assert Worker.all(queue=queue) == []


@pytest.mark.covers("fault:R4")
async def test_a_job_that_was_pushed_twice_is_looked_at_twice_and_leaves_nothing(queue: Queue, drives: Drives) -> None:
    (job,) = put(queue)
    queue.push_job_id(job.id)
    async with at_work(concurrent_worker(queue)):
        await until(lambda: len(drives.now) == 2 and job.get_status(refresh=True) == "started", "both looks")
        drives.free.set()
        await until(lambda: not drives.now and left_of_jobs(queue) == set(), "the end of both")
    assert queue.started_job_registry.get_job_ids() == []
    assert queue.connection.llen(queue.intermediate_queue_key) == 0


@pytest.mark.covers("threat:T26")
async def test_a_job_that_is_not_ours_is_recorded_as_failed_and_the_others_go_on(queue: Queue, drives: Drives) -> None:
    forged = [
        Job.create(name, args=args, connection=queue.connection, serializer=JSONSerializer)
        for name, args in (
            ("os.system", ("true",)),
            ("os.system", (str(uuid4()),)),  # what it is given would do for a run's id
            (dispatch.JOB, ("no id",)),
            (dispatch.JOB, (1, 2)),
        )
    ]
    for job in forged:
        queue.enqueue_job(job)
    put(queue)
    drives.free.set()
    async with at_work(concurrent_worker(queue)):
        await until(lambda: drives.begun, "the job behind them")
        await until(lambda: {job.get_status(refresh=True) for job in forged} == {"failed"}, "the refusals")
    assert set(queue.failed_job_registry.get_job_ids()) == {job.id for job in forged} and len(drives.begun) == 1
    assert queue.connection.llen(queue.intermediate_queue_key) == 0


async def test_a_drive_that_raises_fails_its_job_and_tells_the_projects_handlers(queue: Queue, drives: Drives) -> None:
    told = []
    (job,) = put(queue)

    async def explode(run_id: UUID, runtime: Any = None) -> str:
        raise ZeroDivisionError

    execution.adrive = explode  # type: ignore[assignment] - put back by the fixture
    worker = concurrent_worker(queue)
    worker.push_exc_handler(lambda job, *info: told.append((job.id, info[0])))
    async with at_work(worker):
        await until(lambda: job.get_status(refresh=True) == "failed", "the failure")
    assert told == [(job.id, ZeroDivisionError)]
    assert "ZeroDivisionError" in (job.latest_result().exc_string or "")


async def test_a_job_at_rqs_deadline_is_given_back(queue: Queue, drives: Drives, settings: LazySettings) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "JOB_TIMEOUT": 1}
    (job,) = put(queue)
    async with at_work(concurrent_worker(queue)):
        await until(lambda: drives.interrupted == run_ids([job]), "the deadline")
        await until(lambda: job.get_status(refresh=True) == "failed", "the record of it")


# --- what operators say -------------------------------------------------------------------------------------------


async def test_a_stopped_job_stops_and_no_other(queue: Queue, drives: Drives) -> None:
    first, second = put(queue, 2)
    async with at_work(concurrent_worker(queue)) as working:
        await until(lambda: second.get_status(refresh=True) == "started", "both jobs")
        send_stop_job_command(queue.connection, first.id, serializer=JSONSerializer)
        await until(lambda: first.get_status(refresh=True) == "stopped", "the first to stop")
        assert drives.interrupted == run_ids([first]) and drives.now == run_ids([second])
        assert not working.done()
        drives.free.set()


async def test_a_killed_horse_is_every_run_of_the_worker_and_the_worker_stays(queue: Queue, drives: Drives) -> None:
    jobs = put(queue, 3)
    worker = concurrent_worker(queue)
    async with at_work(worker) as working:
        await until(lambda: jobs[-1].get_status(refresh=True) == "started", "the jobs")
        send_kill_horse_command(queue.connection, worker.name)
        await until(lambda: sorted(drives.interrupted) == sorted(run_ids(jobs)), "the runs to be interrupted")
        assert not working.done()
        drives.free.set()


async def test_a_shutdown_command_drains(queue: Queue, drives: Drives, monkeypatch: pytest.MonkeyPatch) -> None:
    put(queue)
    drained = []
    monkeypatch.setattr(concurrent.Runtime, "drain", lambda runtime: drained.append(runtime))
    worker = concurrent_worker(queue)
    async with at_work(worker) as working:
        await until(lambda: drives.now, "the run")
        send_shutdown_command(queue.connection, worker.name)
        await until(lambda: drained, "the drain")
        drives.free.set()
        await asyncio.wait_for(working, 10)
    assert drives.interrupted == [] and worker.exit_status == 0


async def test_a_suspended_worker_takes_nothing_until_it_is_resumed(queue: Queue, drives: Drives) -> None:
    drives.free.set()
    suspension.suspend(queue.connection)
    worker = concurrent_worker(queue)
    async with at_work(worker):
        await until(lambda: worker._inbox.suspended, "the suspension to be seen")
        put(queue)
        await asyncio.sleep(1.5)
        assert drives.begun == []
        suspension.resume(queue.connection)
        await until(lambda: drives.begun, "the run")


async def test_a_job_that_comes_in_the_moment_of_the_suspension_goes_back_in_front(
    queue: Queue, drives: Drives
) -> None:
    drives.free.set()
    worker = concurrent_worker(queue)
    async with at_work(worker):
        await until(lambda: Worker.all(queue=queue), "the worker to be listed")
        await asyncio.sleep(0.3)  # it waits for a job now, and has seen no suspension
        queue.connection.eval(
            "redis.call('SET', KEYS[1], 1) redis.call('RPUSH', KEYS[2], ARGV[1], ARGV[2])",
            2,
            suspension.WORKERS_SUSPENDED,
            queue.key,
            *(sent := [hint_of(uuid4()), hint_of(uuid4())]),
        )
        await until(lambda: worker._inbox.suspended, "the suspension to be seen")
        await until(lambda: queue.job_ids == sent, "the job to be back")
        assert drives.begun == [] and queue.connection.llen(queue.intermediate_queue_key) == 0
        suspension.resume(queue.connection)
        await until(lambda: len(drives.begun) == 2, "the runs")


# --- the id names the run -------------------------------------------------------------------------------------------


def hint_of(run_id: UUID) -> str:
    return f"run-{run_id.hex}-0123456789ab"


@pytest.mark.covers("fault:R5")
async def test_a_job_of_which_redis_has_kept_the_id_only_still_says_look_at_its_run(
    queue: Queue, drives: Drives
) -> None:
    quick, slow = uuid4(), uuid4()
    queue.push_job_id(hint_of(slow))
    async with at_work(concurrent_worker(queue)):
        await until(lambda: drives.now == [slow], "the run")
        await until(lambda: queue.started_job_registry.get_job_ids() == [hint_of(slow)], "RQ to know of it")
        queue.push_job_id(hint_of(quick))
        await until(lambda: drives.now == [slow, quick], "the other run")
        drives.free.set()
        await until(lambda: not drives.now and left_of_jobs(queue) == set(), "the end of both")
    assert queue.connection.llen(queue.intermediate_queue_key) == 0


async def test_nothing_is_read_of_a_hints_job_and_all_of_it_of_any_other(queue: Queue, drives: Drives) -> None:
    drives.free.set()
    queue.connection.config_resetstat()
    async with at_work(concurrent_worker(queue)):
        put(queue, 3)
        await until(lambda: len(drives.begun) == 3, "the runs")
        assert "cmdstat_hmget" not in queue.connection.info("commandstats")
        named_otherwise = Job.create(
            dispatch.JOB, args=(str(uuid4()),), connection=queue.connection, serializer=JSONSerializer
        )
        queue.enqueue_job(named_otherwise)
        await until(lambda: drives.begun[3:] == run_ids([named_otherwise]), "the run of the fourth")
        assert queue.connection.info("commandstats")["cmdstat_hmget"]["calls"] == 1


# --- stopping -------------------------------------------------------------------------------------------------------


@pytest.mark.covers("fault:O1")
async def test_a_run_that_reaches_no_step_boundary_in_time_is_handed_over(
    queue: Queue, drives: Drives, settings: LazySettings
) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "DRAIN_SECONDS": 0.5}
    jobs = put(queue, 2)
    worker = concurrent_worker(queue)
    async with at_work(worker) as working:
        await until(lambda: len(drives.now) == 2, "the runs")
        worker.shut_down()
        await asyncio.sleep(0.2)
        assert len(drives.now) == 2
        await asyncio.wait_for(working, 5)
    assert sorted(drives.interrupted) == sorted(run_ids(jobs)) and worker.exit_status == 0


@pytest.mark.covers("fault:O1")
async def test_a_worker_with_no_room_left_stops_as_soon_as_any_other(queue: Queue, drives: Drives) -> None:
    put(queue, 3)
    worker = concurrent_worker(queue, concurrency=2)
    async with at_work(worker) as working:
        await until(lambda: len(drives.now) == 2, "a full house")
        worker.shut_down()
        await asyncio.wait_for(working, 8)
    assert len(drives.interrupted) == 2 and len(queue.job_ids) == 1


@pytest.mark.covers("fault:O1")
async def test_a_job_that_came_in_the_moment_of_the_stop_stays_in_the_queue(queue: Queue, drives: Drives) -> None:
    worker = concurrent_worker(queue)
    async with at_work(worker):
        await until(lambda: Worker.all(queue=queue), "the worker to be listed")
        await asyncio.sleep(0.3)  # it waits for a job now
        worker.shut_down()
        sent = [uuid4() for _ in range(3)]
        assert all(dispatch.enqueue(run_id) for run_id in sent)
    assert drives.begun == []
    assert run_ids(queue.jobs) == sent
    assert queue.connection.llen(queue.intermediate_queue_key) == 0


async def test_a_worker_that_may_not_be_trusted_any_more_leaves_with_a_status_of_its_own(
    queue: Queue, drives: Drives, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "WATCHDOG_SECONDS": 1}
    monkeypatch.setattr(AppThreads, "stuck", lambda threads: 1)
    worker = concurrent_worker(queue)
    async with at_work(worker) as working:
        await asyncio.wait_for(working, 10)
    assert worker.exit_status == concurrent.STUCK_STATUS


# --- how it is made -------------------------------------------------------------------------------------------------


def test_it_listens_to_one_queue(queue: Queue) -> None:
    with pytest.raises(ValueError, match="one queue"):
        ConcurrentWorker(["agentcore", "other"], connection=queue.connection)


@pytest.mark.covers("dj:RQ-1", "fault:O5")
def test_it_reads_json_and_only_our_jobs_whatever_it_is_given(server: RedisServer, settings: LazySettings) -> None:
    settings.RQ_QUEUES = {"agentcore": {"URL": server.url, "SERIALIZER": "rq.serializers.DefaultSerializer"}}
    worker = concurrent.build("agentcore", concurrency=2)
    for reader in (worker, *worker.queues):
        assert reader.job_class is concurrent.AgentcoreJob and reader.serializer is JSONSerializer
    worker.connection.close()


def test_a_concurrency_of_none_is_refused() -> None:
    with pytest.raises(CommandError, match="at least 1"):
        call_command("agentcore_worker", "--concurrency", "0")
