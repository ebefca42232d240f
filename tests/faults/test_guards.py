"""A worker that is killed in the middle of a guard: whoever takes over asks again, and nothing was done meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentcore.models import Message, Run
from tests.faults.runs import LONG, send, settings_of_process, status, types, wait_for_success
from tests.stack import Process, Stack, wait_for
from tests.testapp import agents
from tests.testapp.guarded import EFFECT, PLACES

DONE_BY_THEN = {
    "before_model": {"step.started": 0},
    "after_answer": {"step.started": 1, "text.delta": 0, "tool.call": 0, "message": 0},
    "when_recorded": {"step.finished": 0, "tool.call": 0},
    "before_it_runs": {"step.finished": 1, "tool.call": 1, "step.started": 1},
}
"""How many events of a type there are while a guard is asked at that place."""


def asked(stack: Stack) -> list[tuple[str, int]]:
    """Where guards were asked, and the tool's effect, each with the attempt."""
    return [(effect.call_id, effect.attempt) for effect in stack.effects()]


def inside_a_guard(stack: Stack, make_thread: Callable[..., Any], place: str, **env: str) -> tuple[Run, Process]:
    """A run that is held in its guard at that place, and the worker that drives it."""
    stack.hold_tools()
    run = send(agents.guarded, make_thread("guarded"), place)
    worker = stack.worker(**env)
    wait_for(lambda: (place, 1) in asked(stack), LONG, f"the guard {place}")
    return run, worker


@pytest.mark.parametrize("place", PLACES)
def test_whoever_takes_over_from_a_worker_killed_in_a_guard_asks_it_again(
    stack: Stack, make_thread: Callable[..., Any], place: str
) -> None:
    stack.sweeper()
    run, doomed = inside_a_guard(stack, make_thread, place)
    found = types(run)
    assert {kind: found.count(kind) for kind in DONE_BY_THEN[place]} == DONE_BY_THEN[place]
    assert not Message.objects.filter(run=run, author_kind="agent").exists() or place == "before_it_runs"
    doomed.kill9()
    stack.release_tools()
    stack.worker()
    wait_for_success(run)
    assert asked(stack).count((place, 1)) == 1 and (place, 2) in asked(stack)
    assert [name for name, _ in asked(stack)].count(EFFECT) == 1


@pytest.mark.parametrize("place", PLACES)
def test_a_worker_that_drains_in_a_guard_hands_the_run_over(
    stack: Stack, make_thread: Callable[..., Any], place: str
) -> None:
    stack.sweeper()
    hasty = settings_of_process(LEASE_SECONDS=60, DRAIN_SECONDS=1)
    run, worker = inside_a_guard(stack, make_thread, place, **hasty)
    worker.ask_to_finish()
    wait_for(lambda: status(run) == "pending", LONG, "the run to be given back")
    assert "text.delta" not in types(run)
    stack.release_tools()
    stack.worker()
    wait_for_success(run)
    assert (place, 2) in asked(stack) and [name for name, _ in asked(stack)].count(EFFECT) == 1
