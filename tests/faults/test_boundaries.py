"""A worker that dies, or stands still for longer than its lease, at each boundary between a run's commits."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from agentcore import SYSTEM
from agentcore.models import Run, ToolCall
from agentcore.testing import Evidence, check_invariants
from agentcore.testing.faults.plans import Marks
from tests.faults.openings import freeze_between_writes
from tests.faults.runs import (
    LONG,
    assert_log_is_whole,
    driver_of,
    events,
    failpoints,
    send,
    settings_of_process,
    status,
)
from tests.stack import Process, Stack, chosen_workers, wait_for
from tests.testapp import agents, hazards, rows
from tests.testapp.mixed import ACTING

IN_THE_WORLD = "unsafe idempotent checkable pure"
EVERY_EFFECT = f"{IN_THE_WORLD} atomic"
ANSWERED = {name: "effect_unverified" if name == "unsafe" else "succeeded" for name in EVERY_EFFECT.split()}
QUICK = {"LEASE_SECONDS": 1, "SWEEP_SECONDS": 0.3, "HINT_GRACE_SECONDS": 0.5, "FAILPOINTS": True}


def killed_at(stack: Stack, run: Run, point: str, **settings: Any) -> None:
    """Have a worker die at a point of the run, and another one, with its sweeper, at work."""
    env = settings_of_process(**{**QUICK, **settings})
    stack.worker(**env, **failpoints(stack.directory, **{point.partition("@")[0]: f"kill{point[len(bare(point)) :]}"}))
    wait_for(lambda: Marks(stack.directory).fired(bare(point)), LONG, f"the death at {point}")
    recover(stack)


def recover(stack: Stack) -> Process:
    """Put another worker, and a sweeper, to work."""
    quick = settings_of_process(**QUICK)
    stack.sweeper(**quick)
    return stack.worker(**quick)


def bare(point: str) -> str:
    return point.partition("@")[0]


def ends(run: Run, as_: str = "succeeded") -> None:
    wait_for(lambda: status(run) == as_, LONG, f"the run to be {as_}")


def assert_honest(stack: Stack, run: Run) -> Counter[str]:
    """No invariant is violated; returns how often each tool acted."""
    evidence = Evidence(effects=[*stack.effects(), *rows.committed()], acting_tools=ACTING)
    assert check_invariants([run.pk], evidence) == []
    names = dict(ToolCall.objects.filter(run=run).values_list("call_id", "name"))
    return Counter(names[effect.call_id] for effect in evidence.effects or ())


def model_steps(run: Run) -> list[int]:
    return [event["step"] for event in events(run) if event["type"] == "step.started" and event["kind"] == "model"]


def statuses(run: Run) -> dict[str, str]:
    return dict(ToolCall.objects.filter(run=run).values_list("name", "status"))


# --- killed -------------------------------------------------------------------------------------------------------


@pytest.mark.covers("fault:W2", "promise:P1")
def test_killed_after_the_claim(stack: Stack, make_thread: Callable[..., Any]) -> None:
    run = send(agents.mixed, make_thread("mixed"), "hello")
    killed_at(stack, run, "after_claim")
    ends(run)
    assert_log_is_whole(run)
    assert Run.objects.get(pk=run.pk).attempt == 2
    assert_honest(stack, run)


@pytest.mark.covers("fault:W4", "promise:P3", "promise:P4")
def test_killed_after_the_model_step_and_before_its_calls(stack: Stack, make_thread: Callable[..., Any]) -> None:
    run = send(agents.mixed, make_thread("mixed"), EVERY_EFFECT)
    # The slice is over after the model step, so that the calls are recorded in a commit of their own.
    killed_at(stack, run, "after_model_commit", SLICE_SECONDS=0.001)
    ends(run)
    assert model_steps(run) == [1, 3]
    assert assert_honest(stack, run) == dict.fromkeys(ANSWERED, 1)


@pytest.mark.covers("fault:W4", "promise:P6")
def test_killed_after_the_model_step_and_before_the_wait(stack: Stack, make_thread: Callable[..., Any]) -> None:
    run = send(agents.mixed, make_thread("mixed"), "gated")
    killed_at(stack, run, "after_model_commit")
    ends(run, "waiting")
    approve(run)
    ends(run)
    assert model_steps(run) == [1, 3]
    assert assert_honest(stack, run) == {"gated": 1}


@pytest.mark.covers("fault:W5", "fault:W6", "promise:P4", "promise:P5")
@pytest.mark.parametrize("point", ["after_tool_start", "in_tool"])
def test_killed_when_the_calls_have_started(stack: Stack, make_thread: Callable[..., Any], point: str) -> None:
    run = send(agents.mixed, make_thread("mixed"), EVERY_EFFECT)
    killed_at(stack, run, point)
    ends(run, "waiting")
    assert statuses(run) == ANSWERED
    assert assert_honest(stack, run) == {"idempotent": 1, "checkable": 1, "pure": 1, "atomic": 1}
    unsafe = ToolCall.objects.get(run=run, name="unsafe")
    agents.mixed.tools.resolve(run, unsafe.call_id, "run_again", user=SYSTEM)
    ends(run)
    assert assert_honest(stack, run) == dict.fromkeys(ANSWERED, 1)


@pytest.mark.covers("fault:W7", "promise:P4", "promise:P5")
@pytest.mark.parametrize(
    ("effect", "effects"), [("unsafe", 1), ("idempotent", 2), ("checkable", 1), ("pure", 2), ("atomic", 1)]
)
def test_killed_when_the_tool_has_returned(
    stack: Stack, make_thread: Callable[..., Any], effect: str, effects: int
) -> None:
    run = send(agents.mixed, make_thread("mixed"), effect)
    killed_at(stack, run, "after_tool_return")
    ends(run, "waiting" if effect == "unsafe" else "succeeded")
    assert statuses(run) == {effect: ANSWERED[effect]}
    assert assert_honest(stack, run) == {effect: effects}


@pytest.mark.covers("fault:W8", "promise:P4")
@pytest.mark.parametrize("point", ["after_result_commit", "after_result_commit@5"])
def test_killed_when_results_are_committed(stack: Stack, make_thread: Callable[..., Any], point: str) -> None:
    run = send(agents.mixed, make_thread("mixed"), EVERY_EFFECT)
    killed_at(stack, run, point)
    every = point.endswith("@5")
    wait_for(lambda: status(run) in ("succeeded", "waiting"), LONG, "the run to go on")
    kept = [event["name"] for event in events(run) if event["type"] == "tool.result" and event["status"] == "succeeded"]
    assert len(kept) == len(set(kept))
    acted = assert_honest(stack, run)
    assert acted["unsafe"] == 1
    if every:
        assert (status(run), acted) == ("succeeded", dict.fromkeys(ANSWERED, 1))


@pytest.mark.covers("fault:W9", "promise:P7")
def test_killed_before_the_end(stack: Stack, make_thread: Callable[..., Any]) -> None:
    run = send(agents.mixed, make_thread("mixed"), "unsafe")
    killed_at(stack, run, "before_finish")
    ends(run)
    assert_log_is_whole(run)
    assert assert_honest(stack, run) == {"unsafe": 1}


@pytest.mark.covers("fault:W10", "promise:P6")
def test_killed_when_the_run_waits(stack: Stack, make_thread: Callable[..., Any]) -> None:
    run = send(agents.mixed, make_thread("mixed"), "gated unsafe")
    killed_at(stack, run, "at_wait")
    waiting = Run.objects.get(pk=run.pk)
    assert (waiting.status, waiting.lease_expires_at, waiting.attempt) == ("waiting", None, 1)
    approve(run)
    ends(run)
    assert assert_honest(stack, run) == {"gated": 1, "unsafe": 1}
    assert Run.objects.get(pk=run.pk).lost_leases == 0


@pytest.mark.covers("fault:D3", "fault:W8", "promise:P2")
@pytest.mark.parametrize("point", ["before_commit@2", "after_commit@2"])
def test_killed_around_a_commit(stack: Stack, make_thread: Callable[..., Any], point: str) -> None:
    run = send(agents.mixed, make_thread("mixed"), EVERY_EFFECT)
    killed_at(stack, run, point)
    wait_for(lambda: status(run) in ("succeeded", "waiting"), LONG, "the run to go on")
    assert assert_honest(stack, run)["unsafe"] <= 1


def approve(run: Run) -> None:
    approval = run.approvals.get()
    agents.mixed.tools.approve(approval.pk, user=SYSTEM, digest=approval.digest)


# --- frozen -------------------------------------------------------------------------------------------------------


@pytest.mark.covers("fault:W13", "promise:P2", "promise:P4", "promise:P5")
@pytest.mark.parametrize(
    ("point", "held"),
    [
        pytest.param("after_claim", "hold", marks=pytest.mark.longer),
        pytest.param("mid_stream", "hold@2", marks=pytest.mark.longer),
        pytest.param("after_tool_start", "hold", marks=pytest.mark.longer),
        ("in_tool", "hold*"),  # all of its calls
        pytest.param("after_tool_return", "hold*", marks=pytest.mark.longer),
        pytest.param("after_result_commit", "hold@4", marks=pytest.mark.longer),
        pytest.param("before_suspend", "hold", marks=pytest.mark.longer),
        pytest.param("before_finish", "hold", marks=pytest.mark.longer),
    ],
)
def test_frozen_for_three_leases_and_thawed(
    stack: Stack, make_thread: Callable[..., Any], point: str, held: str
) -> None:
    prompt = {"mid_stream": "stream", "before_suspend": "gated"}.get(point, IN_THE_WORLD)
    run = send(agents.mixed, make_thread("mixed"), prompt)
    quick = settings_of_process(**QUICK)
    worker = stack.worker(**quick, **failpoints(stack.directory, **{point: held}))
    marks = Marks(stack.directory)
    wait_for(lambda: marks.reached(point), LONG, f"the run to be at {point}")
    # Not stopped by the point itself: the model's text, or the sweep, may be half written by another thread then.
    freeze_between_writes(worker, run)
    marks.release(point)
    zombie = driver_of(run)
    recover(stack)
    wait_for(lambda: driver_of(run) != zombie, LONG, "the take-over")
    wait_for(lambda: status(run) in ("succeeded", "waiting"), LONG, "the run to go on without the zombie")
    before = events(run)
    worker.thaw()
    wait_for(lambda: let_go(stack, zombie), LONG, "the zombie to drop the run")
    assert events(run) == before
    acted = assert_honest(stack, run)
    assert acted["unsafe"] <= 1


def let_go(stack: Stack, zombie: int) -> bool:
    """Whether the process has said so, or is gone."""
    try:
        gone = psutil.Process(zombie).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        gone = True
    return gone or any("let go: lost" in process.text for process in stack.processes)


# --- what a tool has started --------------------------------------------------------------------------------------


@pytest.mark.covers("fault:W6")
def test_what_a_tool_has_started_dies_with_its_worker(stack: Stack, make_thread: Callable[..., Any]) -> None:
    run = send(hazards.spawner, make_thread("spawner"))
    doomed = stack.worker(**settings_of_process(**QUICK))
    note = stack.hold.with_suffix(".pid")
    pid = int(wait_for(lambda: note.exists() and note.read_text(), LONG, "the child"))
    assert psutil.Process(pid).name() == "sleep"
    if chosen_workers() == "stock":
        os.kill(driver_of(run), signal.SIGKILL)
    else:
        doomed.kill9_alone()
    wait_for(lambda: not psutil.pid_exists(pid), 10, "the child to be gone")
