"""The limit of a run's time: what counts is that a worker is on it, over all its workers, and no waiting."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F
from django.utils import timezone

from agentcore import SYSTEM, Limits, tool
from agentcore.engine.runtime import Runtime
from agentcore.exceptions import ModelError
from agentcore.models import Run, ToolCall
from agentcore.providers import CallRequested, StepFinished, TextDelta
from agentcore.services import approvals, execution, runs, unverified
from agentcore.services.sweep import sweep
from agentcore.testing import Turn, fake_clock, run_until_idle
from tests.integration.decision_room import PAID, add, pay
from tests.integration.room import (
    Died,
    approve,
    assert_ended_once,
    die_driving,
    drive_to_the_end,
    fresh,
    make,
    only_approval,
)

pytestmark = [pytest.mark.once, pytest.mark.django_db, pytest.mark.usefixtures("nothing_paid")]

HOUR = 3600


@tool
def dies(text: str = "") -> str:
    """Take the worker along."""
    raise Died


def paying(**options: Any) -> tuple[Any, Run]:
    room = make(
        [Turn(calls=[("pay", {"cents": 5})]), Turn(text="Done.")], [pay], limits=Limits(max_seconds=60), **options
    )
    return room, room.play()


@pytest.mark.covers("fc:C1")
def test_time_that_a_run_waits_for_an_approval_does_not_count() -> None:
    _, run = paying()
    with fake_clock() as clock:
        clock.advance(HOUR)
        approve(run)
        clock.advance(HOUR)  # and nor does what it waits for a worker then
        assert drive_to_the_end(run).status == "succeeded"
    assert len(PAID) == 1


@pytest.mark.covers("fc:C1")
def test_time_that_a_run_waits_to_hear_whether_a_call_happened_does_not_count() -> None:
    room = make([Turn(calls=[("dies", {"text": "a"})]), Turn(text="Done.")], [dies], limits=Limits(max_seconds=60))
    run = room.send()
    die_driving(run)
    assert drive_to_the_end(run).status == "waiting"
    with fake_clock(HOUR):
        unverified.resolve(run, ToolCall.objects.get(run=run).call_id, "happened", user=SYSTEM)
        assert drive_to_the_end(run).status == "succeeded"


@pytest.mark.covers("fc:C1")
def test_time_that_a_run_is_parked_does_not_count(settings: Any) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "POISON_AFTER": 1}
    room = make([Turn(calls=[("add", {"a": 1, "b": 2})]), Turn(text="Done.")], [add], limits=Limits(max_seconds=60))
    run = room.send()
    Run.objects.filter(pk=run.pk).update(
        status="running", attempt=1, alone=True, running_since=timezone.now(), lease_expires_at=timezone.now()
    )
    with fake_clock(timedelta(seconds=1)):
        assert sweep().poisoned == 1
    with fake_clock(HOUR):
        runs.resume(run, user=SYSTEM)
        assert drive_to_the_end(run).status == "succeeded"


@pytest.mark.covers("fc:C1")
def test_time_that_a_run_waits_for_a_retry_does_not_count() -> None:
    slow = Turn(error=ModelError("Slow down.", code="rate_limited", retry_after=60))
    run = make([slow, Turn(text="Done.")], limits=Limits(max_seconds=60)).play()
    assert run.status == "pending" and run.available_at is not None
    with fake_clock(HOUR):
        assert drive_to_the_end(run).status == "succeeded"


@pytest.mark.covers("fc:C1")
def test_time_that_a_run_waits_for_its_turn_in_the_thread_does_not_count() -> None:
    room, first = paying()
    second = room.send("And this?")
    with fake_clock(HOUR):
        execution.drive(second.pk, Runtime("worker", inline=True))
        assert fresh(second).status == "pending"
        approve(first)
        room.model.turns += [Turn(text="That too.")]
        assert drive_to_the_end(first).status == drive_to_the_end(second).status == "succeeded"


@pytest.mark.covers("fc:C1")
@pytest.mark.parametrize("told", ["approved", "denied"])
def test_a_run_whose_time_is_up_ends_before_a_decided_call_runs(told: str) -> None:
    room, run = paying()
    Run.objects.filter(pk=run.pk).update(running_seconds=61)
    approval = only_approval(run)
    (approvals.approve if told == "approved" else approvals.deny)(approval, user=SYSTEM, digest=approval.digest)
    run = drive_to_the_end(run)
    assert (run.status, run.error_code, PAID, len(room.model.requests)) == ("failed", "limit_time", [], 1)
    assert "running for its 60 seconds" in run.error_message
    assert_ended_once(run, "failed")


def was_running(run: Run, seconds: float) -> None:
    """Let a run have been running for some time when its lease ran out."""
    Run.objects.filter(pk=run.pk).update(running_since=F("lease_expires_at") - timedelta(seconds=seconds))


@pytest.mark.covers("fc:C1")
def test_time_in_which_no_worker_lives_does_not_count() -> None:
    ran = []

    @tool(effect="pure")
    def dies_once() -> str:
        """Take the first worker along."""
        ran.append("dies_once")
        if len(ran) == 1:
            raise Died
        return "nothing"

    room = make([Turn(calls=[("dies_once", {})]), Turn(text="Done.")], [dies_once], limits=Limits(max_seconds=60))
    run = room.send()
    die_driving(run)
    was_running(run, 10)
    with fake_clock(8 * HOUR):
        run = drive_to_the_end(run)
    assert (run.status, ran) == ("succeeded", ["dies_once"] * 2)
    assert 10 <= run.running_seconds < 60


@pytest.mark.covers("fc:C1")
def test_a_lease_that_ran_out_before_the_run_was_parked_ends_what_counts(settings: Any) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "POISON_AFTER": 1}
    room = make([Turn(text="Done.")], limits=Limits(max_seconds=60))
    run = room.send()
    Run.objects.filter(pk=run.pk).update(status="running", attempt=1, alone=True, lease_expires_at=timezone.now())
    was_running(run, 10)
    with fake_clock(8 * HOUR):
        assert sweep().poisoned == 1
        assert 9.9 <= fresh(run).running_seconds <= 10.1
        runs.resume(run, user=SYSTEM)
        assert drive_to_the_end(run).status == "succeeded"


@pytest.mark.covers("fc:C1")
def test_time_that_workers_were_on_it_counts_over_all_of_them_whether_they_lived_or_not() -> None:
    room = make([Turn(calls=[("dies", {"text": "a"})]), Turn(text="Done.")], [dies], limits=Limits(max_seconds=60))
    run = room.send()
    with fake_clock() as clock:
        die_driving(run)
        was_running(run, 61)
        clock.advance(1)
        run = drive_to_the_end(run)
    assert (run.status, run.error_code, len(room.model.requests)) == ("failed", "limit_time", 1)
    assert ToolCall.objects.get(run=run).status == "effect_unverified"
    assert 61 <= run.running_seconds < 600 and run.running_since is None


@pytest.mark.covers("fc:C1")
def test_what_it_was_running_is_kept_to_the_moment_in_every_status() -> None:
    class Slow:
        name, provider = "slow", "tests"

        async def stream(self, request: Any) -> Any:
            await asyncio.sleep(0.2)
            if request.messages[-1].author == "user":
                yield CallRequested("x", "pay", {"cents": 5})
            yield TextDelta("Well.")
            yield StepFinished("stop")

    room = make(Slow(), [pay])
    run = room.send()
    began = time.monotonic()
    run = run_until_idle(run)
    taken = time.monotonic() - began
    assert run.status == "waiting" and run.running_since is None
    assert 0.2 <= run.running_seconds <= taken + 0.01
    first = run.running_seconds
    approve(run)
    assert fresh(run).running_seconds == first
    run = drive_to_the_end(run)
    assert run.status == "succeeded" and run.running_since is None
    assert run.running_seconds >= first + 0.2
    waited = (run.finished_at - run.started_at) - timedelta(seconds=run.running_seconds)
    assert waited >= timedelta(0)
