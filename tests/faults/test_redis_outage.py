"""Redis carries hints: without it runs are late, and nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from agentcore.models import Run
from tests.faults.openings import inside_its_tool, listening
from tests.faults.runs import LONG, assert_log_is_whole, events, send, status, wait_for_success
from tests.stack import Stack, wait_for
from tests.testapp import agents

OUTAGE = 8.0  # seconds; a worker that doubles its wait has then just gone to sleep for eight more
SOON = 6.0  # within which a run must start when Redis is back: a promise of liveness, not a measurement


@pytest.mark.own_workers
@pytest.mark.covers("fault:R2", "fault:R6", "promise:P1")
def test_a_run_started_in_an_outage_is_accepted_at_once_and_starts_soon_after_it(
    outage_stack: Stack, make_thread: Callable[..., Any]
) -> None:
    thread = make_thread()
    sweeper, worker = outage_stack.sweeper(), listening(outage_stack.worker())
    outage_stack.stop_redis()
    back_at = time.monotonic() + OUTAGE
    run = send(agents.echo, thread)
    assert OUTAGE - (back_at - time.monotonic()) < 3
    wait_for(lambda: time.monotonic() >= back_at, 2 * OUTAGE, "the outage to be over")
    assert status(run) == "pending"
    outage_stack.start_redis()
    wait_for(lambda: status(run) != "pending", SOON, "the run to start")
    wait_for_success(run)
    assert worker.alive and sweeper.alive


@pytest.mark.covers("fault:R6", "promise:P1")
def test_a_worker_whose_redis_goes_away_during_a_job_finishes_the_run_and_stays(
    outage_stack: Stack, make_thread: Callable[..., Any]
) -> None:
    outage_stack.sweeper()
    first, worker = inside_its_tool(outage_stack, agents.careful_bee, make_thread)
    outage_stack.stop_redis()
    outage_stack.release_tools()
    wait_for(lambda: status(first) == "succeeded", LONG, "the run to succeed without Redis")
    wait_for(
        lambda: "Redis went away during a job" in worker.text or "Redis is away" in worker.text, LONG, "its notice"
    )
    second = send(agents.echo, make_thread())
    outage_stack.start_redis()
    wait_for_success(second)
    assert worker.alive
    assert Run.objects.get(pk=first.pk).attempt == 1 and len(outage_stack.effects()) == 1


@pytest.mark.covers("fault:R5")
def test_flushall_in_the_middle_of_a_run_loses_nothing(outage_stack: Stack, make_thread: Callable[..., Any]) -> None:
    assert outage_stack.redis is not None
    runs = [send(agents.slow, make_thread("slow", title=str(number)), "go") for number in range(2)]
    outage_stack.sweeper()
    outage_stack.worker()
    wait_for(lambda: any(events(run)[-1]["type"] == "text.delta" for run in runs), LONG, "the first text")
    with redis.Redis.from_url(outage_stack.redis.url) as client:
        client.flushall()
    wait_for(lambda: {status(run) for run in runs} == {"succeeded"}, LONG, "both runs to succeed")
    for run in runs:
        assert_log_is_whole(run)
        assert Run.objects.get(pk=run.pk).attempt == 1
