"""Versions: a run goes on with the current agent, or strictly with its own; who has neither leaves it alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from agentcore import SYSTEM, Agent
from agentcore.declaration import registry
from agentcore.exceptions import Conflict
from agentcore.models import Run
from agentcore.services import execution, runs
from agentcore.services.sweep import sweep
from agentcore.streams.models import Record
from agentcore.testing import ScriptedModel, Turn
from tests.integration.room import assert_ended_once, claim, fresh, lapse, log

pytestmark = [pytest.mark.django_db, pytest.mark.covers("fault:O4")]


def release(version: str, **options: Any) -> Agent:
    """Another release's processes: the agent in another version."""
    registry._agents.clear()
    return Agent(name="test", version=version, model=ScriptedModel([Turn(text="Hello")]), **options)


def put_off_two_hours_ago(run: Run) -> None:
    """What time does to a run that was put off once."""
    long_ago = timezone.now() - timedelta(hours=2)
    Run.objects.filter(pk=run.pk, version_missing_since__isnull=False).update(version_missing_since=long_ago)
    Run.objects.filter(pk=run.pk, status="pending").update(available_at=long_ago)
    assert fresh(run).version_missing_since == long_ago


def sent(agent: Agent) -> Run:
    return agent.runs.send(agent.threads.create(user=SYSTEM), "Go", user=SYSTEM)


def test_a_run_goes_on_with_the_current_version() -> None:
    run = sent(release("1"))
    release("2")
    assert execution.drive(run.pk) == "ended"
    assert_ended_once(run, "succeeded")
    assert fresh(run).agent_version == "1"


def test_a_strict_run_is_put_off_by_a_worker_of_another_version_and_burns_no_attempt() -> None:
    run = sent(release("1", on_version="strict"))
    events = log(run)
    release("2", on_version="strict")
    assert execution.drive(run.pk) == "other_version"
    after = fresh(run)
    assert (after.status, after.attempt, after.available_at is not None) == ("pending", 0, True)
    assert log(run) == events, "nothing has happened"
    Run.objects.update(available_at=timezone.now() - timedelta(seconds=1))
    release("1", on_version="strict")
    assert execution.drive(run.pk) == "ended"
    assert_ended_once(run, "succeeded")


def test_execute_refuses_a_strict_run_of_another_version_and_says_which_is_here() -> None:
    run = sent(release("1", on_version="strict"))
    release("2", on_version="strict")
    with pytest.raises(Conflict, match=r"'1'.*'2' is here"):
        execution.execute(run, user=SYSTEM)
    assert (fresh(run).status, fresh(run).attempt) == ("pending", 0)
    release("1", on_version="strict")
    assert execution.execute(run, user=SYSTEM).status == "succeeded"
    release("2", on_version="strict")
    assert execution.execute(run, user=SYSTEM).status == "succeeded", "an ended one is left alone"


def test_a_run_whose_agent_is_not_there_is_put_off_too() -> None:
    run = sent(release("1"))
    registry._agents.clear()
    assert execution.drive(run.pk) == "other_version"
    assert (fresh(run).status, fresh(run).attempt) == ("pending", 0)


def test_a_run_that_waited_long_for_its_turn_is_put_off_and_not_ended_at_the_first_look() -> None:
    run = sent(release("1", on_version="strict"))
    long_ago = timezone.now() - timedelta(hours=2)
    Record.objects.filter(stream=run.stream_id).update(created_at=long_ago)
    Run.objects.update(created_at=long_ago)
    release("2", on_version="strict")
    assert execution.drive(run.pk) == "other_version"
    assert fresh(run).status == "pending"


@pytest.mark.parametrize("claimed", [True, False], ids=["claimed", "resumed by a person"])
def test_what_goes_on_meanwhile_gives_the_run_its_whole_time_again(claimed: bool) -> None:
    run = sent(release("1", on_version="strict"))
    release("2", on_version="strict")
    execution.drive(run.pk)
    put_off_two_hours_ago(run)
    if claimed:
        assert claim(run.pk) is not None
    else:
        Run.objects.filter(pk=run.pk).update(status="waiting", poisoned_at=timezone.now())
        runs.resume(fresh(run), user=SYSTEM)
    assert fresh(run).version_missing_since is None


@pytest.mark.parametrize("driven_before", [False, True])
def test_a_run_whose_version_nobody_has_in_time_fails_and_says_so(driven_before: bool) -> None:
    run = sent(release("1", on_version="strict"))
    if driven_before:
        Run.objects.filter(pk=run.pk).update(status="running", attempt=1, lease_expires_at=timezone.now())
        lapse(run)
    release("2", on_version="strict")
    assert execution.drive(run.pk) == "other_version"
    put_off_two_hours_ago(run)
    assert execution.drive(run.pk) == "other_version"
    assert_ended_once(run, "failed")
    assert fresh(run).error_code == "agent_version_missing"
    assert sweep().hinted == 0
