"""A worker that is killed loses its lease, never the run and never the truth about the world."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from agentcore import SYSTEM
from agentcore.models import Run, ToolCall
from tests.faults.runs import LONG, assert_log_is_whole, events, send, status
from tests.stack import Stack, wait_for
from tests.testapp import agents


@pytest.mark.covers("fault:W3", "promise:P1", "promise:P7")
def test_text_of_a_killed_attempt_is_dropped_and_the_run_succeeds(
    stack: Stack, make_thread: Callable[..., Any]
) -> None:
    run = send(agents.slow, make_thread("slow"))
    stack.sweeper()
    doomed = stack.worker()
    wait_for(lambda: any(event["type"] == "text.delta" for event in events(run)), LONG, "the first text")
    doomed.kill9()
    stack.worker()
    wait_for(lambda: status(run) == "succeeded", LONG, "the run to succeed")
    assert_log_is_whole(run)
    log = events(run)
    reset = next(index for index, event in enumerate(log) if event["type"] == "step.reset")
    said = "".join(event["text"] for event in log[reset:] if event["type"] == "text.delta")
    assert said.split() == [str(number) for number in range(40)]
    assert Run.objects.get(pk=run.pk).attempt == 2


@pytest.mark.covers("fault:W6", "fault:W7", "promise:P4", "promise:P5")
def test_an_unsafe_call_that_may_have_happened_waits_for_a_person(
    stack: Stack, make_thread: Callable[..., Any]
) -> None:
    stack.hold_tools()
    run = send(agents.worker_bee, make_thread("worker_bee"))
    stack.sweeper()
    doomed = stack.worker()
    wait_for(stack.effects, LONG, "the tool's effect")
    doomed.kill9()
    stack.release_tools()
    stack.worker()
    wait_for(lambda: status(run) == "waiting", LONG, "the run to wait")
    assert ToolCall.objects.get(run=run).status == "effect_unverified"
    assert len(stack.effects()) == 1


@pytest.mark.covers("fault:W6", "fault:W7")
def test_an_idempotent_call_is_run_again_under_the_same_id(stack: Stack, make_thread: Callable[..., Any]) -> None:
    stack.hold_tools()
    run = send(agents.careful_bee, make_thread("careful_bee"))
    stack.sweeper()
    doomed = stack.worker()
    wait_for(stack.effects, LONG, "the tool's effect")
    doomed.kill9()
    stack.release_tools()
    stack.worker()
    wait_for(lambda: status(run) == "succeeded", LONG, "the run to succeed")
    assert_log_is_whole(run)
    assert len({effect.call_id for effect in stack.effects()}) == 1
    assert [effect.attempt for effect in stack.effects()] == [1, 2]


@pytest.mark.own_workers
@pytest.mark.covers("dj:RQ-5", "fault:W12")
def test_a_run_whose_work_horse_is_killed_is_finished_by_the_same_worker(
    stack: Stack, make_thread: Callable[..., Any]
) -> None:
    stack.hold_tools()
    run = send(agents.careful_bee, make_thread("careful_bee"))
    stack.sweeper()
    worker = stack.worker("stock")
    wait_for(stack.effects, LONG, "the tool's effect")
    (horse,) = worker.children()
    os.kill(horse, signal.SIGKILL)
    stack.release_tools()
    wait_for(lambda: status(run) == "succeeded", LONG, "the run to succeed")
    assert worker.alive and "Work-horse terminated unexpectedly" in worker.text
    assert_finished_by_the_second_attempt(stack, run)


@pytest.mark.covers("dj:RQ-5", "fault:W6")
def test_a_run_whose_worker_is_killed_with_its_horse_is_finished_by_another(
    stack: Stack, make_thread: Callable[..., Any]
) -> None:
    stack.hold_tools()
    run = send(agents.careful_bee, make_thread("careful_bee"))
    stack.sweeper()
    workers = [stack.worker(), stack.worker()]
    wait_for(stack.effects, LONG, "the tool's effect")
    driver = int(Run.objects.get(pk=run.pk).worker.rpartition(":")[2])
    # By pid: the other worker may have a horse too, which looks at a second hint and finds nothing to do.
    (doomed,) = [worker for worker in workers if driver in (worker.pid, *worker.children())]
    doomed.kill9()
    stack.release_tools()
    wait_for(lambda: status(run) == "succeeded", LONG, "the run to succeed")
    assert_finished_by_the_second_attempt(stack, run)


def assert_finished_by_the_second_attempt(stack: Stack, run: Run) -> None:
    assert Run.objects.get(pk=run.pk).attempt == 2
    assert [effect.attempt for effect in stack.effects()] == [1, 2]
    assert len({effect.call_id for effect in stack.effects()}) == 1
    assert_log_is_whole(run)


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
    wait_for(lambda: status(run) == "succeeded", LONG, "the run to succeed")
    assert len(stack.effects()) == 1
    assert_log_is_whole(run)
