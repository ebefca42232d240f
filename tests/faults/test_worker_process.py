"""The worker process dies, freezes or stands still at the worst moment; the run goes on, and nobody else's stops."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from agentcore.models import Run, ToolCall
from tests.faults.openings import inside_its_tool
from tests.faults.runs import LONG, driver_of, events, failpoints, send, settings_of_process, status, wait_for_success
from tests.programs import lives
from tests.stack import Stack, chosen_workers, wait_for
from tests.testapp import agents, hazards


@pytest.mark.covers("fault:W1", "promise:P1")
def test_a_worker_killed_between_taking_a_hint_and_its_claim_costs_no_attempt(
    stack: Stack, make_thread: Callable[..., Any]
) -> None:
    run = send(agents.echo, make_thread())
    doomed = stack.worker(**failpoints(stack.directory, job_entry="kill"))
    wait_for(lambda: not doomed.alive or "unexpectedly" in doomed.text, LONG, "the death")
    assert status(run) == "pending"
    stack.sweeper()
    stack.worker()
    wait_for_success(run)
    after = Run.objects.get(pk=run.pk)
    assert (after.attempt, after.lost_leases) == (1, 0)


@pytest.mark.covers("fault:W11", "promise:P2")
def test_a_horse_that_outlives_its_parent_and_its_lease_is_fenced(
    stack: Stack, make_thread: Callable[..., Any]
) -> None:
    run, doomed = inside_its_tool(stack, agents.careful_bee, make_thread, lambda: stack.worker("stock"))
    (horse,) = doomed.children()
    doomed.kill9_alone()
    assert lives(horse)
    os.kill(horse, signal.SIGSTOP)
    stack.sweeper()
    stack.worker()
    wait_for(lambda: len(stack.effects()) == 2, LONG, "the take-over")
    os.kill(horse, signal.SIGCONT)
    stack.release_tools()
    wait_for_success(run)
    wait_for(lambda: not lives(horse), LONG, "the horse to end")
    assert [effect.attempt for effect in stack.effects()] == [1, 2]
    assert [event["type"] for event in events(run)].count("tool.result") == 1


WAYS = {
    "segfault": hazards.killer,
    "memory": hazards.killer,
    "exit": hazards.killer,
    "task": hazards.faller,
    "callback": hazards.faller,
    "blocked": hazards.faller,
}


@pytest.mark.covers("fault:W14", "fc:A11")
@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_kills_every_worker_waits_for_a_person_and_takes_nobody_with_it_twice(
    stack: Stack, make_thread: Callable[..., Any], way: str
) -> None:
    run = send(WAYS[way], make_thread(WAYS[way].name), f"{way} now")
    stack.sweeper()
    quick = settings_of_process(
        LEASE_SECONDS=2, SWEEP_SECONDS=0.5, HINT_GRACE_SECONDS=1, POLL_SECONDS=1, WATCHDOG_SECONDS=1
    )
    first = stack.worker(**quick)
    if chosen_workers() == "concurrent":
        wait_for(lambda: not first.alive, LONG, "the first worker's death")
    survivor = stack.worker(**quick)
    wait_for(lambda: status(run) == "waiting", LONG, "the run to be parked")
    assert Run.objects.get(pk=run.pk).poisoned_at is not None
    assert ToolCall.objects.get(run=run).status == "running"
    assert survivor.alive
    other = send(agents.echo, make_thread())
    wait_for(lambda: status(other) == "succeeded", LONG, "another run to succeed")
    # Where runs share a process, the first death proves nothing against any of them.
    assert len(stack.effects()) == (4 if chosen_workers() == "concurrent" else 3)


@pytest.mark.covers("fc:A11")
def test_a_tool_that_raises_what_ends_most_programs_ends_its_call_and_no_process(
    stack: Stack, make_thread: Callable[..., Any]
) -> None:
    other = send(agents.waiter, make_thread("waiter"))
    stack.hold_tools()
    worker = stack.worker()
    run = send(hazards.interrupter, make_thread("interrupter"))
    if chosen_workers() == "stock":
        stack.release_tools()  # it drives one run at a time
    wait_for_success(run)
    assert ToolCall.objects.get(run=run).status == "failed"
    stack.release_tools()
    wait_for_success(other)
    assert worker.alive
    assert set(Run.objects.values_list("attempt", "lost_leases")) == {(1, 0)}


@pytest.mark.covers("fault:W15", "promise:P1")
def test_a_blocked_loop_ends_its_process_which_says_where_it_stood(
    stack: Stack, make_thread: Callable[..., Any]
) -> None:
    run = send(hazards.blocker, make_thread("blocker"))
    stack.sweeper()
    quick = settings_of_process(LEASE_SECONDS=2, SWEEP_SECONDS=0.5, HINT_GRACE_SECONDS=1, WATCHDOG_SECONDS=1)
    worker = stack.worker(**quick)
    wait_for(lambda: "in block_loop" in worker.text, LONG, "the stacks")
    assert "stood still for 1 seconds" in worker.text
    if chosen_workers() == "concurrent":
        wait_for(lambda: not worker.alive, LONG, "the process to end")
        assert worker.sigterm() == 1
        stack.worker(**quick)
    wait_for_success(run)
    assert [effect.attempt for effect in stack.effects()] == [1, 2]


@pytest.mark.own_workers
@pytest.mark.covers("fault:W17")
def test_a_parent_with_a_database_connection_of_its_own_does_not_disturb_its_horses(
    stack: Stack, make_thread: Callable[..., Any]
) -> None:
    runs = [send(agents.echo, make_thread(title=str(number))) for number in range(15)]
    worker = stack.manage("worker", "rqworker", "agentcore", "--worker-class", "tests.testapp.dirty.DirtyWorker")
    for run in runs:
        wait_for_success(run)
    assert {run.attempt for run in Run.objects.all()} == {1}
    assert worker.sigterm() == 0
    assert "Error" not in worker.text


@pytest.mark.own_workers
@pytest.mark.covers("fault:W6", "fault:W14")
def test_the_process_that_drives_a_suspect_does_not_outlive_its_worker(
    stack: Stack, make_thread: Callable[..., Any]
) -> None:
    run, doomed = inside_its_tool(stack, agents.careful_bee, make_thread, lambda: stack.worker("concurrent"))
    doomed.kill9()
    second = stack.worker("concurrent")
    wait_for(lambda: len(stack.effects()) == 2, LONG, "the take-over")
    alone = driver_of(run)
    assert alone in second.children()
    second.kill9_alone()
    wait_for(lambda: not lives(alone), 5, "the suspect's process to end")
    stack.release_tools()
    stack.worker("concurrent")
    wait_for_success(run)
