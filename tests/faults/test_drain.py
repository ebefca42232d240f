"""A worker that is told to stop hands its runs over: at once, counted as nothing, and nothing is done twice."""

from __future__ import annotations

from collections.abc import Callable
from subprocess import TimeoutExpired
from typing import Any

import pytest

from agentcore.models import Run
from agentcore.testing import Evidence, check_invariants
from tests.faults.openings import inside_its_tool, listening, wait_for_text
from tests.faults.runs import (
    LONG,
    assert_counted_on,
    driver_of,
    events,
    send,
    settings_of_process,
    status,
    wait_for_success,
)
from tests.stack import Process, Stack, wait_for
from tests.testapp import agents, hazards, rows

LONG_LEASE = {"LEASE_SECONDS": 60, "SWEEP_SECONDS": 0.5, "HINT_GRACE_SECONDS": 1, "DRAIN_SECONDS": 10}


def patient_worker(stack: Stack, **more: Any) -> Process:
    """A worker whose runs nobody takes over within the test, unless they are handed over."""
    return stack.worker(**settings_of_process(**{**LONG_LEASE, **more}))


def released(run: Run) -> list[str]:
    return [event["reason"] for event in events(run) if event["type"] == "run.released"]


@pytest.mark.own_workers
@pytest.mark.covers("fault:O1", "promise:P1")
def test_rolling_restarts_lose_no_time_and_count_as_nothing(stack: Stack, make_thread: Callable[..., Any]) -> None:
    stack.hold_tools()  # the walkers walk on until they are let go
    runs = [send(hazards.walker, make_thread("walker", title=str(number))) for number in range(6)]
    stack.sweeper()
    workers = [patient_worker(stack), patient_worker(stack)]
    for worker in workers:
        listening(worker)
    wait_for(lambda: len(stack.effects()) >= 2, LONG, "the first steps")
    for _ in range(3):
        new = listening(patient_worker(stack))
        old, *workers = [*workers, new]
        assert old.sigterm() == 0
    stack.release_tools()
    for run in runs:
        wait_for_success(run)
        after = Run.objects.get(pk=run.pk)
        assert (after.lost_leases, after.poisoned_at) == (0, None)
    assert any("drained" in released(run) for run in runs)
    done = [(effect.run_id, effect.call_id) for effect in stack.effects()]
    assert len(done) == len(set(done)), "a step was repeated"


@pytest.mark.own_workers
@pytest.mark.covers("fault:O1", "promise:P1")
def test_a_run_inside_a_step_when_the_grace_is_over_is_handed_over_as_it_stands(
    stack: Stack, make_thread: Callable[..., Any]
) -> None:
    stack.sweeper()
    run, old = inside_its_tool(stack, hazards.waiter, make_thread, lambda: patient_worker(stack, DRAIN_SECONDS=1))
    listening(patient_worker(stack))
    assert old.sigterm() == 0
    wait_for(lambda: len(stack.effects()) == 2, 5, "the new worker to take over at once")
    stack.release_tools()
    wait_for_success(run)
    after = Run.objects.get(pk=run.pk)
    assert (after.attempt, after.lost_leases) == (2, 0)


@pytest.mark.own_workers
@pytest.mark.covers("fault:O1")
def test_text_of_a_model_call_that_was_broken_off_by_the_stop_is_dropped(
    stack: Stack, make_thread: Callable[..., Any]
) -> None:
    stack.hold_tools()  # the run speaks on until it is let go
    run = send(agents.counter, make_thread("counter"))
    stack.sweeper()
    old = patient_worker(stack, DRAIN_SECONDS=0.2)
    wait_for_text(run)
    assert old.sigterm() == 0
    patient_worker(stack)
    wait_for_text(run, "step.reset")
    stack.release_tools()
    wait_for_success(run)
    assert_counted_on(run)
    assert Run.objects.get(pk=run.pk).lost_leases == 0


@pytest.mark.postgres
@pytest.mark.covers("fault:O1", "fault:M11", "promise:P4")
def test_an_atomic_tool_that_outlasts_the_drain_is_rolled_back_and_run_elsewhere(
    stack: Stack, make_thread: Callable[..., Any]
) -> None:
    stack.hold_tools()
    stack.sweeper()
    run = send(agents.atomic_booker, make_thread("atomic_booker"))
    old = patient_worker(stack, DRAIN_SECONDS=0.2)
    wait_for(lambda: "step.started" in [event["type"] for event in events(run)][-1:], LONG, "the tool to begin")
    assert old.sigterm() == 0 and released(run)
    stack.release_tools()
    patient_worker(stack)
    wait_for_success(run)
    assert [effect.attempt for effect in rows.committed()] == [2]
    assert check_invariants([run.pk], Evidence(effects=rows.committed(), acting_tools=("book_atomic",))) == []


@pytest.mark.covers("fault:O2", "promise:P1")
def test_a_second_signal_ends_the_process_at_once_and_its_run_is_taken_over(
    stack: Stack, make_thread: Callable[..., Any]
) -> None:
    stack.sweeper()
    run, old = inside_its_tool(stack, agents.careful_bee, make_thread)
    with pytest.raises(TimeoutExpired):
        old.sigterm(timeout=1.5)  # the tool holds it, and there are twenty seconds of grace
    old.sigterm(timeout=5)
    assert not [child for child in old.children() if child == driver_of(run)]
    stack.release_tools()
    stack.worker()
    wait_for_success(run)
    assert [effect.attempt for effect in stack.effects()] == [1, 2]


@pytest.mark.own_workers
@pytest.mark.covers("fault:O1")
def test_a_suspect_in_a_process_of_its_own_is_drained_with_its_worker(
    stack: Stack, make_thread: Callable[..., Any]
) -> None:
    run, doomed = inside_its_tool(stack, hazards.walker, make_thread, lambda: stack.worker("concurrent"))
    doomed.kill9()
    second = stack.worker("concurrent")
    wait_for(lambda: driver_of(run) not in (doomed.pid, second.pid), LONG, "a process of its own")
    begun = len(stack.effects())
    wait_for(lambda: len(stack.effects()) > begun, LONG, "its next step")
    assert second.sigterm() == 0
    assert "drained" in released(run) and status(run) == "pending"
    stack.release_tools()
    stack.worker("concurrent")
    wait_for_success(run)


@pytest.mark.own_workers
@pytest.mark.covers("fault:O1", "dj:RQ-1")
def test_rqs_own_worker_with_our_job_class_finishes_what_it_has_begun(
    stack: Stack, make_thread: Callable[..., Any]
) -> None:
    ours = ["--job-class", "agentcore.jobs.job.AgentcoreJob", "--serializer", "rq.serializers.JSONSerializer"]
    run, worker = inside_its_tool(
        stack, agents.careful_bee, make_thread, lambda: stack.manage("worker", "rqworker", "agentcore", *ours)
    )
    with pytest.raises(TimeoutExpired):
        worker.sigterm(timeout=1)
    stack.release_tools()
    wait_for(lambda: not worker.alive, LONG, "the worker to end")
    assert status(run) == "succeeded" and Run.objects.get(pk=run.pk).attempt == 1
    assert worker.sigterm() == 0


@pytest.mark.covers("fault:O1")
def test_an_idle_worker_stops_at_once(stack: Stack) -> None:
    worker = listening(stack.worker())
    assert worker.sigterm(timeout=8) == 0
