"""Retrying: one run at a time in a turn, and each finds its own place in it."""

from __future__ import annotations

import pytest
from django.utils import timezone

from agentcore import SYSTEM
from agentcore.declaration import registry
from agentcore.exceptions import Conflict, ModelError, RunActive, ThreadBusy
from agentcore.journal import fence
from agentcore.models import Message, Run, ToolCall
from agentcore.services import runs, sending
from agentcore.testing import Turn, run_until_idle
from tests.integration.doomed import TOOLS
from tests.integration.room import assert_ended_once, fresh, make, race

FAILS = Turn(text="Half", error=ModelError("Bad key", code="auth", retryable=False))
CALLS = Turn(text="Let me see.", calls=[("pure", {})])


@pytest.fixture(autouse=True)
def _clean():
    with registry.isolated():
        yield


@pytest.mark.django_db
def test_a_retry_and_the_retry_of_it_are_one_run_while_it_lives():
    room = make([CALLS, FAILS, CALLS, FAILS, CALLS, Turn("Done.")], TOOLS)
    first = room.play()
    second = run_until_idle(sending.retry(first, user=SYSTEM))
    assert (first.status, second.status) == ("failed", "failed")
    third = sending.retry(first, user=SYSTEM)
    assert sending.retry(second, user=SYSTEM) == third and Run.objects.count() == 3
    assert run_until_idle(third).status == "succeeded"
    assert_ended_once(third, "succeeded")
    places = list(Message.objects.order_by("step_order").values_list("order", "step_order"))
    assert places == [(0, number) for number in range(len(places))]


@pytest.mark.django_db
def test_a_retry_starts_behind_every_place_its_turn_has_given_away():
    room = make([CALLS, FAILS], TOOLS)
    first = room.play()
    Message.objects.filter(run=first).delete()
    assert sending.retry(first, user=SYSTEM).next_step_order == first.next_step_order > 1


@pytest.mark.django_db(transaction=True)
def test_retries_at_once_of_a_run_and_of_its_retry_make_one():
    room = make([FAILS, FAILS, Turn("Done.")])
    first = room.play()
    second = run_until_idle(sending.retry(first, user=SYSTEM))
    made = race(*[lambda run=run: sending.retry(run.pk, user=SYSTEM) for run in (first, second) * 3])
    assert len({run.pk for run in made}) == 1 and Run.objects.count() == 3
    assert run_until_idle(made[0]).status == "succeeded"


@pytest.mark.django_db
def test_a_retry_does_not_join_a_run_where_the_agent_rejects_that():
    room = make([FAILS], on_busy="reject")
    failed = room.play()
    other = room.send("Another one")
    with pytest.raises(ThreadBusy):
        sending.retry(failed, user=SYSTEM)
    assert Run.objects.count() == 2
    runs.cancel(other, user=SYSTEM)
    again = sending.retry(failed, user=SYSTEM)
    assert sending.retry(failed, user=SYSTEM) == again


@pytest.mark.django_db
def test_a_turn_is_not_retried_while_a_call_of_any_of_its_runs_may_have_happened():
    room = make([FAILS, CALLS, FAILS], TOOLS)
    first = room.play()
    second = run_until_idle(sending.retry(first, user=SYSTEM))
    ToolCall.objects.filter(run=second).update(status="effect_unverified", finished_at=None)
    for run in (first, second):
        with pytest.raises(Conflict, match="may have taken effect"):
            sending.retry(run, user=SYSTEM)


@pytest.mark.django_db
def test_what_a_page_says_about_a_retry_is_what_the_service_does(user):
    room = make([FAILS, Turn("Done.")], user=user)
    run = room.send()
    assert isinstance(sending.why_not_retry(run, user=user), RunActive)
    failed = run_until_idle(run)
    assert sending.why_not_retry(failed, user=user) is None and sending.living_retry(failed) is None
    again = sending.retry(failed, user=user)
    assert sending.why_not_retry(failed, user=user) is None and sending.living_retry(failed) == again
    assert "succeeded" in str(sending.why_not_retry(run_until_idle(again), user=user))


@pytest.mark.django_db
def test_a_run_that_is_not_parked_any_more_when_its_row_is_locked_is_not_resumed(monkeypatch):
    run = make([Turn(calls=[("gated", {})])], TOOLS).play()
    Run.objects.filter(pk=run.pk).update(poisoned_at=timezone.now())
    really = fence.hold

    def after_another_resume(*args):
        Run.objects.filter(pk=run.pk).update(poisoned_at=None)
        return really(*args)

    monkeypatch.setattr(fence, "hold", after_another_resume)
    with pytest.raises(Conflict, match="not parked"):
        runs.resume(run, user=SYSTEM)
    assert fresh(run).status == "waiting"
