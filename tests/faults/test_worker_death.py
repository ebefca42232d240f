"""A worker that is killed loses its lease, never the run and never the truth about the world."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from agentcore import SYSTEM
from agentcore.models import Run, ToolCall
from tests.faults.openings import inside_its_tool, wait_for_text
from tests.faults.runs import LONG, assert_counted_on, driver_of, send, status, wait_for_success
from tests.stack import Stack, wait_for
from tests.testapp import agents


@pytest.mark.covers("fault:W3", "promise:P1", "promise:P7")
def test_text_of_a_killed_attempt_is_dropped_and_the_run_succeeds(
    stack: Stack, make_thread: Callable[..., Any]
) -> None:
    stack.hold_tools()  # the run speaks on until it is let go
    run = send(agents.counter, make_thread("counter"))
    stack.sweeper()
    doomed = stack.worker()
    wait_for_text(run)
    doomed.kill9()
    stack.worker()
    wait_for_text(run, "step.reset")
    stack.release_tools()
    wait_for_success(run)
    assert_counted_on(run)
    assert Run.objects.get(pk=run.pk).attempt == 2


@pytest.mark.covers("fault:W6", "fault:W7", "promise:P4", "promise:P5")
def test_an_unsafe_call_that_may_have_happened_waits_for_a_person(
    stack: Stack, make_thread: Callable[..., Any]
) -> None:
    stack.sweeper()
    run, doomed = inside_its_tool(stack, agents.worker_bee, make_thread)
    doomed.kill9()
    stack.release_tools()
    stack.worker()
    wait_for(lambda: status(run) == "waiting", LONG, "the run to wait")
    assert ToolCall.objects.get(run=run).status == "effect_unverified"
    assert len(stack.effects()) == 1


@pytest.mark.covers("fault:W6", "fault:W7")
def test_an_idempotent_call_is_run_again_under_the_same_id(stack: Stack, make_thread: Callable[..., Any]) -> None:
    stack.sweeper()
    run, doomed = inside_its_tool(stack, agents.careful_bee, make_thread)
    doomed.kill9()
    stack.release_tools()
    stack.worker()
    wait_for_success(run)
    assert_finished_by_the_second_attempt(stack, run)


@pytest.mark.own_workers
@pytest.mark.covers("dj:RQ-5", "fault:W12")
def test_a_run_whose_work_horse_is_killed_is_finished_by_the_same_worker(
    stack: Stack, make_thread: Callable[..., Any]
) -> None:
    stack.sweeper()
    run, worker = inside_its_tool(stack, agents.careful_bee, make_thread, lambda: stack.worker("stock"))
    (horse,) = worker.children()
    os.kill(horse, signal.SIGKILL)
    stack.release_tools()
    wait_for_success(run)
    assert worker.alive and "Work-horse terminated unexpectedly" in worker.text
    assert_finished_by_the_second_attempt(stack, run)


@pytest.mark.covers("dj:RQ-5", "fault:W6")
def test_a_run_whose_worker_is_killed_with_its_horse_is_finished_by_another(
    stack: Stack, make_thread: Callable[..., Any]
) -> None:
    stack.sweeper()
    other = stack.worker()
    run, worker = inside_its_tool(stack, agents.careful_bee, make_thread)
    # By pid: the other worker may have a horse too, which looks at a second hint and finds nothing to do.
    (doomed,) = [one for one in (worker, other) if driver_of(run) in (one.pid, *one.children())]
    doomed.kill9()
    stack.release_tools()
    wait_for_success(run)
    assert_finished_by_the_second_attempt(stack, run)


def assert_finished_by_the_second_attempt(stack: Stack, run: Run) -> None:
    assert Run.objects.get(pk=run.pk).attempt == 2
    assert [effect.attempt for effect in stack.effects()] == [1, 2]
    assert len({effect.call_id for effect in stack.effects()}) == 1


@pytest.mark.covers("fault:W10", "promise:P6")
def test_nobody_works_on_a_run_that_waits_and_a_new_worker_carries_on(
    stack: Stack, make_thread: Callable[..., Any]
) -> None:
    run = send(agents.gated, make_thread("gated"))
    stack.sweeper()
    first = stack.worker()
    wait_for(lambda: status(run) == "waiting", LONG, "the run to wait")
    first.kill9()
    assert stack.effects() == []
    assert Run.objects.get(pk=run.pk).lease_expires_at is None
    approval = run.approvals.get()
    agents.gated.tools.approve(approval.pk, user=SYSTEM, digest=approval.digest)
    stack.worker()
    wait_for_success(run)
    assert len(stack.effects()) == 1
