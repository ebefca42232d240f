"""Redis carries hints: without it runs are late, and nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from agentcore.models import Run
from tests.faults.runs import LONG, assert_log_is_whole, events, send, status
from tests.stack import Stack, wait_for
from tests.testapp import agents


@pytest.mark.covers("fault:R2", "promise:P1")
def test_a_run_started_without_redis_is_accepted_at_once_and_runs_when_redis_is_back(
    outage_stack: Stack, make_thread: Callable[..., Any]
) -> None:
    thread = make_thread()
    outage_stack.stop_redis()
    started = time.monotonic()
    run = send(agents.echo, thread)
    assert time.monotonic() - started < 3
    assert status(run) == "pending"
    outage_stack.start_redis()
    outage_stack.sweeper()
    outage_stack.worker()
    wait_for(lambda: status(run) == "succeeded", LONG, "the run to succeed")
    assert_log_is_whole(run)


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
