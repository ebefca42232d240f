"""A tool that writes into the project's database, and a model that never has enough, with workers dying on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from django.contrib.auth.models import Group

from agentcore import SYSTEM, tool
from agentcore.engine.runtime import Runtime
from agentcore.models import Run, Step, ToolCall
from agentcore.services import execution, runs
from agentcore.testing import Evidence, Turn, check_invariants
from agentcore.testing.faults.plans import Marks
from tests.faults.openings import freeze_between_writes
from tests.faults.runs import LONG, events, failpoints, send, status
from tests.integration.room import Died, die_driving, make
from tests.stack import Stack, wait_for
from tests.testapp import agents, rows
from tests.testapp.books import MOST_STEPS
from tests.testapp.world import Effect

POINTS = ["after_tool_start", "in_tool", "after_tool_return", "after_result_commit"]


def killed_at(stack: Stack, point: str, action: str = "kill") -> None:
    """Workers that die at a point, and one more that is left to go on."""
    stack.sweeper()
    for _ in range(3):
        stack.worker(**failpoints(stack.directory, **{point: action}))


def assert_sound(run: Run, effects: Sequence[Effect], *tools: str) -> None:
    evidence = Evidence(effects=effects, acting_tools=tools)
    assert check_invariants([run.pk], evidence) == []


@pytest.mark.covers("fault:M11", "promise:P4")
@pytest.mark.parametrize("point", POINTS)
def test_a_row_that_the_call_can_be_found_by_is_written_exactly_once(
    stack: Stack, make_thread: Callable[..., Any], point: str
) -> None:
    run = send(agents.checked_booker, make_thread("checked_booker"))
    killed_at(stack, point)
    wait_for(lambda: status(run) == "succeeded", LONG, "the run to succeed")
    assert Group.objects.count() == 1 == len(stack.effects())
    assert ToolCall.objects.get(run=run).result == '"booked"'
    assert Run.objects.get(pk=run.pk).attempt == 2
    assert_sound(run, stack.effects(), "book_checked")


@pytest.mark.covers("fault:M11", "promise:P4")
@pytest.mark.parametrize("point", [*POINTS, "before_commit@3"])
def test_an_atomic_tool_and_its_result_are_committed_once_and_together(
    stack: Stack, make_thread: Callable[..., Any], point: str
) -> None:
    run = send(agents.atomic_booker, make_thread("atomic_booker"))
    name, mark, nth = point.partition("@")
    killed_at(stack, name, f"kill{mark}{nth}")
    wait_for(lambda: status(run) == "succeeded", LONG, "the run to succeed")
    call = ToolCall.objects.get(run=run)
    assert [effect.attempt for effect in rows.committed()] == [call.attempt]
    if point in POINTS:  # on a slow machine the third commit may be another one than the body's
        assert call.attempt == (1 if point == "after_result_commit" else 2)
    assert call.result == '"booked"'
    assert Run.objects.get(pk=run.pk).attempt == 2
    assert_sound(run, rows.committed(), "book_atomic")


@pytest.mark.postgres
@pytest.mark.covers("fault:M11", "fault:W13", "promise:P2", "promise:P4")
def test_an_atomic_tool_that_was_frozen_for_longer_than_its_lease_commits_nothing(
    stack: Stack, make_thread: Callable[..., Any]
) -> None:
    run = send(agents.atomic_booker, make_thread("atomic_booker"))
    zombie = stack.worker(**failpoints(stack.directory, after_tool_return="hold"))
    marks = Marks(stack.directory)
    wait_for(lambda: marks.reached("after_tool_return"), LONG, "the body to have returned")
    freeze_between_writes(zombie, run)
    marks.release("after_tool_return")
    stack.sweeper()
    stack.worker()
    wait_for(lambda: status(run) == "succeeded", LONG, "the run to go on without the zombie")
    before = events(run)
    zombie.thaw()
    wait_for(lambda: "let go: lost" in zombie.text, LONG, "the zombie to drop the run")
    assert [effect.attempt for effect in rows.committed()] == [2]
    assert events(run) == before
    assert_sound(run, rows.committed(), "book_atomic")


@pytest.mark.covers("fault:M11", "fault:W7", "promise:P5")
@pytest.mark.parametrize(("point", "rows"), [("in_tool", 0), ("after_tool_return", 1)])
def test_a_row_that_nobody_can_look_for_is_left_to_a_person(
    stack: Stack, make_thread: Callable[..., Any], point: str, rows: int
) -> None:
    run = send(agents.booker, make_thread("booker"))
    killed_at(stack, point)
    wait_for(lambda: status(run) == "waiting", LONG, "the run to wait")
    assert ToolCall.objects.get(run=run).status == "effect_unverified"
    assert Group.objects.count() == rows == len(stack.effects())
    assert_sound(run, stack.effects(), "book")


@pytest.mark.covers("fault:M4", "promise:P3")
def test_the_limit_of_steps_is_kept_by_whoever_drives_the_run(stack: Stack, make_thread: Callable[..., Any]) -> None:
    run = send(agents.looper, make_thread("looper"))
    killed_at(stack, "after_model_commit", "kill@2*2")
    wait_for(lambda: status(run) == "failed", LONG, "the run to end")
    after = Run.objects.get(pk=run.pk)
    assert (after.error_code, after.attempt > 1) == ("limit_steps", True)
    assert Step.objects.filter(run=run, kind="model", status="finished").count() == MOST_STEPS
    calls = ToolCall.objects.filter(run=run).order_by("pk").values_list("status", flat=True)
    assert [*calls] == ["succeeded"] * (MOST_STEPS - 1) + ["canceled"]  # no model call would read the last one's result
    assert_sound(run, stack.effects(), "look_again")


@pytest.mark.django_db
@pytest.mark.covers("promise:P5")
def test_a_call_that_may_have_happened_is_not_called_canceled_while_it_waits_to_be_repeated() -> None:
    @tool(effect="idempotent")
    def act_and_die() -> str:
        """Take effect, and be the worker's last deed."""
        raise Died

    run = make([Turn(calls=[("act_and_die", {})])], [act_and_die]).send()
    die_driving(run)
    runtime = Runtime("second", inline=True)  # takes the run over, and is told to stop before it repeats the call
    runtime.draining = True
    execution.drive(run.pk, runtime)
    assert (status(run), ToolCall.objects.get(run=run).status) == ("pending", "pending")
    runs.cancel(run, user=SYSTEM)
    call = ToolCall.objects.get(run=run)
    assert (status(run), call.status) == ("canceled", "effect_unverified")
    assert check_invariants([run.pk]) == []
