"""A cancel ends a run once: at once where nobody drives it, before its next step where somebody does."""

from __future__ import annotations

import pytest

from agentcore import SYSTEM, tool
from agentcore.exceptions import ModelError
from agentcore.models import Run
from agentcore.services import execution, runs
from agentcore.testing import Turn, run_until_idle
from agentcore.testing.faults.plans import armed
from tests.integration.room import assert_ended_once, claim, fresh, log, make, race, types

pytestmark = pytest.mark.usefixtures("long_lease")


@tool(needs_approval=True)
def pay(cents: int) -> str:
    """Pay."""
    return "paid"


# --- nobody drives the run ----------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.covers("promise:P8")
def test_a_pending_run_is_canceled_at_once_and_its_late_hint_finds_nothing_to_do():
    room = make([])
    run = room.send()
    canceled = runs.cancel(run, user=SYSTEM, reason="Changed my\x00 mind.")
    assert canceled.status == "canceled" and canceled.cancel_reason == "Changed my\ufffd mind."
    assert_ended_once(run, "canceled")
    assert execution.drive(run.pk) == "nothing"
    assert room.model.requests == []


@pytest.mark.django_db
@pytest.mark.covers("fault:A6")
def test_a_waiting_run_is_canceled_at_once_and_a_second_cancel_changes_nothing():
    run = make([Turn(calls=[("pay", {"cents": 1})])], [pay]).play()
    runs.cancel(run, user=SYSTEM, reason="first")
    before = log(run)
    again = runs.cancel(run, user=SYSTEM, reason="second")
    assert (again.status, again.cancel_reason, log(run)) == ("canceled", "first", before)
    assert_ended_once(run, "canceled")
    assert run.approvals.get().status == "canceled"


@pytest.mark.django_db
def test_a_cancel_lets_the_next_run_of_the_thread_go_on():
    room = make([Turn(text="Second.")])
    first, second = room.send("1"), room.send("2")
    Run.objects.filter(pk=second.pk).update(dispatched_at=None)
    runs.cancel(first, user=SYSTEM)
    assert fresh(second).dispatched_at is not None
    assert run_until_idle(second).status == "succeeded"


@pytest.mark.django_db
def test_cancel_does_not_undo_an_end():
    run = make([Turn(text="Done.")]).play()
    assert runs.cancel(run, user=SYSTEM).status == "succeeded"
    assert_ended_once(run, "succeeded")


# --- a cancel that arrives between two steps ----------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.covers("promise:P8")
def test_a_cancel_at_the_moment_of_suspending_ends_the_run_instead_of_leaving_it_waiting():
    run = make([Turn(calls=[("pay", {"cents": 1})])], [pay]).send()
    with armed(before_suspend=lambda: runs.acancel(run.pk, user=SYSTEM, reason="Just now.")):
        run_until_idle(run)
    assert_ended_once(run, "canceled")
    assert "run.waiting" not in types(run)


@pytest.mark.django_db
@pytest.mark.covers("promise:P8")
def test_a_cancel_at_the_moment_of_giving_the_run_back_ends_it():
    run = make([Turn(error=ModelError("slow down", code="rate_limited", retry_after=60))]).send()
    with armed(before_release=lambda: runs.acancel(run.pk, user=SYSTEM)):
        run_until_idle(run)
    assert_ended_once(run, "canceled")


@pytest.mark.django_db
@pytest.mark.covers("promise:P8")
@pytest.mark.parametrize("when", ["before the model", "before the tools"])
def test_no_step_starts_once_a_cancel_is_committed(when):
    ran = []

    @tool(effect="pure")
    def note() -> None:
        """Note that it runs."""
        ran.append("note")

    room = make([Turn(calls=[("note", {})])], [note])
    run = room.send()
    if when == "before the model":
        assert claim(run.pk, "gone") is not None
        runs.cancel(run, user=SYSTEM)
        assert fresh(run).status == "running"
        Run.objects.filter(pk=run.pk).update(lease_expires_at="2020-01-01T00:00:00Z")
        run_until_idle(run)
        assert room.model.requests == []
    else:
        asked = room.model.stream

        async def then_cancel(request):
            async for event in asked(request):
                yield event
            await runs.acancel(run.pk, user=SYSTEM)

        room.model.stream = then_cancel
        run_until_idle(run)
        assert ran == []
    assert_ended_once(run, "canceled")


@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("promise:P8")
def test_ten_cancels_at_once_are_one_end():
    run = make([]).send()
    outcomes = race(*[lambda: runs.cancel(run.pk, user=SYSTEM)] * 10)
    assert {item.status for item in outcomes} == {"canceled"}
    assert_ended_once(run, "canceled")
