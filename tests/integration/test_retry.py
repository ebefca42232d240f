"""Retrying: what may be retried, one run at a time in a turn, and each finds its own place in it."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import AbstractUser
from django.utils import timezone

from agentcore import SYSTEM
from agentcore.exceptions import Conflict, ModelError, NotFound, RunActive, ThreadBusy
from agentcore.journal import fence
from agentcore.models import Message, Run, ToolCall
from agentcore.services import runs, sending
from agentcore.states import RunStatus, ToolCallStatus
from agentcore.testing import Turn, run_until_idle
from tests.integration.doomed import TOOLS
from tests.integration.room import assert_ended_once, fresh, make, race

FAILS = Turn(text="Half", error=ModelError("Bad key", code="auth", retryable=False))
CALLS = Turn(text="Let me see.", calls=[("pure", {})])


def end(run: Run, status: RunStatus) -> Run:
    Run.objects.filter(pk=run.pk).update(status=status, finished_at=timezone.now() if status.terminal else None)
    run.refresh_from_db()
    return run


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


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("status", "refusal"),
    [(RunStatus.PENDING, RunActive), (RunStatus.WAITING, RunActive), (RunStatus.SUCCEEDED, Conflict)],
)
def test_a_run_that_lives_or_succeeded_is_not_retried(
    user: AbstractUser, status: RunStatus, refusal: type[Exception]
) -> None:
    room = make([], user=user)
    run = end(room.send("Hi", user=user), status)
    with pytest.raises(refusal):
        room.agent.runs.retry(run, user=user)
    assert Run.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("status", [RunStatus.FAILED, RunStatus.CANCELED])
def test_a_run_is_not_retried_while_a_call_of_it_may_have_happened(user: AbstractUser, status: RunStatus) -> None:
    room = make([Turn(calls=[("pure", {})]), Turn(text="ok"), Turn(text="again")], TOOLS, user=user)
    run = end(run_until_idle(room.send("Hi", user=user)), status)
    ToolCall.objects.update(status=ToolCallStatus.EFFECT_UNVERIFIED, finished_at=None)
    with pytest.raises(Conflict, match="may have taken effect"):
        room.agent.runs.retry(run, user=user)
    ToolCall.objects.update(status=ToolCallStatus.FAILED, finished_at=timezone.now())
    assert run_until_idle(room.agent.runs.retry(run, user=user)).status == RunStatus.SUCCEEDED


@pytest.mark.django_db
def test_a_stranger_cannot_retry_what_is_not_there_for_them(user: AbstractUser, other_user: AbstractUser) -> None:
    room = make([], user=user)
    run = end(room.send("Hi", user=user), RunStatus.FAILED)
    with pytest.raises(NotFound):
        room.agent.runs.retry(run, user=other_user)


@pytest.mark.django_db
def test_asking_again_for_a_retry_returns_the_one_that_lives(user: AbstractUser) -> None:
    room = make([Turn(text="ok"), Turn(text="ok")], user=user)
    failed = end(room.send("Hi", user=user), RunStatus.FAILED)
    first = room.agent.runs.retry(failed, user=user)
    assert room.agent.runs.retry(failed, user=user).pk == first.pk
    end(first, RunStatus.FAILED)
    assert room.agent.runs.retry(failed, user=user).pk != first.pk
