"""What does not end by itself is ended: by the tool's own limit, by RQ's deadline, by the worker's exit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.conf import LazySettings

from agentcore.jobs.watchdog import STUCK_STATUS
from agentcore.models import Run
from tests.faults.openings import inside_its_tool, listening
from tests.faults.runs import LONG, send, settings_of_process, wait_for_success
from tests.stack import Stack, chosen_workers, wait_for
from tests.testapp import agents, hazards

QUICK = {"LEASE_SECONDS": 2, "SWEEP_SECONDS": 0.5, "HINT_GRACE_SECONDS": 1, "WATCHDOG_SECONDS": 1, "DRAIN_SECONDS": 1}


@pytest.mark.covers("fault:W15", "fault:W16", "fault:M10")
def test_a_tool_that_swallows_everything_costs_its_call_and_not_the_run(
    stack: Stack, make_thread: Callable[..., Any]
) -> None:
    run = send(hazards.leaker, make_thread("leaker"))
    stack.sweeper()
    stack.worker()
    wait_for_success(run)
    assert Run.objects.get(pk=run.pk).attempt == 1


@pytest.mark.own_workers
@pytest.mark.covers("fault:W15")
def test_a_worker_with_a_thread_it_cannot_stop_drains_and_leaves_for_a_new_one(
    stack: Stack, make_thread: Callable[..., Any]
) -> None:
    bystander, worker = inside_its_tool(
        stack, hazards.waiter, make_thread, lambda: stack.worker("concurrent", **settings_of_process(**QUICK))
    )
    send(hazards.leaker, make_thread("leaker"))
    wait_for(lambda: not worker.alive, LONG, "the worker to leave")
    assert worker.sigterm() == STUCK_STATUS
    assert "does not end" in worker.text
    stack.release_tools()
    stack.worker("concurrent")
    wait_for_success(bystander)
    after = Run.objects.get(pk=bystander.pk)
    assert (after.attempt, after.lost_leases) == (2, 0)


@pytest.mark.covers("fault:W16", "promise:P1")
def test_a_run_at_rqs_deadline_is_given_back_and_not_failed(
    stack: Stack, make_thread: Callable[..., Any], settings: LazySettings
) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "JOB_TIMEOUT": 2}
    stack.hold_tools()
    run = send(agents.careful_bee, make_thread("careful_bee"))
    stack.sweeper()
    stack.worker(**settings_of_process(JOB_TIMEOUT=2))
    wait_for(lambda: len(stack.effects()) >= 2, LONG, "another attempt")
    stack.release_tools()
    wait_for_success(run)
    assert len({effect.call_id for effect in stack.effects()}) == 1


def test_the_worker_that_was_tested_is_the_one_that_was_asked_for(stack: Stack) -> None:
    worker = listening(stack.worker())
    assert ("25 runs at a time" in worker.text) is (chosen_workers() == "concurrent")
