"""The worker's surroundings are not as it expects: settings of another kind, a log that takes no more."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.runs import LONG, send, wait_for_success
from tests.stack import WORKERS, Stack, chosen_workers, wait_for
from tests.testapp import agents


@pytest.mark.covers("fault:O6", "promise:P1")
def test_a_full_log_disk_costs_log_lines_and_no_run(stack: Stack, make_thread: Callable[..., Any]) -> None:
    runs = [send(agents.careful_bee, make_thread("careful_bee", title=str(number))) for number in range(3)]
    stack.sweeper()
    words = [sys.executable, "-m", "django", *WORKERS[chosen_workers()]]
    worker = stack.start("worker", ["sh", "-c", 'exec "$@" >/dev/full 2>&1', "sh", *words])
    for run in runs:
        wait_for_success(run)
    assert worker.alive
    assert worker.sigterm() == 0


@pytest.mark.own_workers
@pytest.mark.covers("fault:O5")
def test_a_worker_of_a_queue_that_is_not_there_says_so_and_ends(stack: Stack) -> None:
    worker = stack.manage("worker", "agentcore_worker", "--queue", "elsewhere")
    wait_for(lambda: not worker.alive, LONG, "the worker to end")
    assert "There is no queue 'elsewhere' in RQ_QUEUES" in worker.text
    assert worker.sigterm() == 1
