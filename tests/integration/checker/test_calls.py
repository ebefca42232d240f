"""The checker compares calls with the world and with the leave they had: I4, I5, I6, I9, and P8."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F

from agentcore import SYSTEM
from agentcore.models import Approval, Run, Step, ToolCall
from agentcore.services import unverified
from agentcore.testing import run_until_idle
from tests.integration.checker.crime import HAPPENED, acted, allowed, found, seen, waiting, world
from tests.testapp.world import Effect

pytestmark = [pytest.mark.once, pytest.mark.django_db]

LATER = timedelta(minutes=5)


def the_call(run: Run) -> ToolCall:
    return ToolCall.objects.get(run=run)


def happened_again(run: Run, attempt: int = 1) -> None:
    HAPPENED.append(Effect(str(run.pk), the_call(run).call_id, attempt))


def test_what_happened_once_and_by_leave_violates_nothing() -> None:
    acted(), allowed(), waiting()
    assert len(HAPPENED) == 2 and seen(world()) == ""


def test_an_unsafe_call_that_happened_twice_is_found() -> None:
    happened_again(acted(), attempt=2)
    assert found(world()) == {"I4"} and "in attempts [1, 2]" in seen(world())


def test_an_idempotent_call_may_happen_twice() -> None:
    run = acted()
    ToolCall.objects.filter(run=run).update(effect="idempotent")
    happened_again(run, attempt=2)
    assert found(world()) == set()


def test_a_person_may_let_an_unsafe_call_run_again() -> None:
    run = waiting()
    call, approval = the_call(run), Approval.objects.get(run=run)
    moment = approval.requested_at
    Approval.objects.filter(pk=approval.pk).update(
        status="approved", decided_at=moment, decided_by_name=repr(SYSTEM), consumed_at=moment
    )
    ToolCall.objects.filter(pk=call.pk).update(status="effect_unverified", tries=1)
    happened_again(run)
    unverified.resolve(run, call.call_id, "run_again", user=SYSTEM)
    run_until_idle(run)
    assert len(HAPPENED) == 2
    assert found(world()) == set()
    happened_again(run)
    assert found(world()) == {"I4", "I9"}


def test_a_success_that_did_not_happen_is_found() -> None:
    acted()
    HAPPENED.clear()
    assert found(world()) == {"I5"}


@pytest.mark.parametrize("status", ["failed", "denied", "canceled"])
def test_an_effect_that_is_shown_as_none_is_found(status: str) -> None:
    run = acted()
    ToolCall.objects.filter(run=run).update(status=status)
    assert found(world()) == {"I6"} and f"is shown as {status}" in seen(world())


def test_an_effect_of_a_call_that_nobody_recorded_is_found() -> None:
    run = acted()
    HAPPENED.append(Effect(str(run.pk), "call_unknown", 1))
    assert found(world()) == {"I6"}


def test_an_effect_that_nobody_has_seen_is_honest_as_unverified() -> None:
    run = acted()
    ToolCall.objects.filter(run=run).update(status="effect_unverified", finished_at=None)
    assert found(world()) == set()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"status": "pending", "decided_at": None, "consumed_at": None}, "with 0 approvals of ['pending']"),
        ({"status": "denied", "consumed_at": None}, "with 0 approvals of ['denied']"),
        ({"consumed_at": None}, "is not consumed"),
        ({"digest": "0" * 64}, "other arguments than were approved"),
        ({"arguments": '{"text":"that"}'}, "other arguments than were approved"),
        ({"edited_arguments": '{"text":"that"}'}, "other arguments than were approved"),
        ({"expires_at": F("decided_at") - LATER}, "after the approval had expired"),
        ({"decided_at": F("consumed_at") + LATER}, "before it was approved"),
    ],
)
def test_a_gated_call_that_ran_without_proper_leave_is_found(values: dict[str, Any], says: str) -> None:
    run = allowed()
    Approval.objects.filter(run=run).update(**values)
    other = {"I15"} if values.keys() & {"arguments", "edited_arguments"} else set()
    assert found(world()) == {"I9", *other} and says in seen(world())


def test_a_gated_call_without_any_approval_is_found_by_what_the_log_announced() -> None:
    Approval.objects.filter(run=allowed()).delete()
    assert found(world()) == {"I9"}


def test_changed_arguments_are_found() -> None:
    ToolCall.objects.filter(run=allowed()).update(arguments='{"text":"that"}')
    assert found(world()) == {"I9"}


def test_an_approval_that_served_twice_is_found() -> None:
    run = allowed()
    ToolCall.objects.filter(run=run).update(tries=2)
    assert found(world()) == {"I9"} and "2 times by one approval" in seen(world())


def test_an_approval_consumed_by_nothing_is_found() -> None:
    run = waiting()
    Approval.objects.filter(run=run).update(
        status="approved", decided_at=F("requested_at"), consumed_at=F("expires_at")
    )
    assert found(world()) == {"I9"} and "was never run" in seen(world())


def test_an_effect_before_the_decision_is_found() -> None:
    happened_again(waiting())
    assert "I9" in found(world())


def test_what_was_run_after_a_cancel_is_found() -> None:
    run = allowed()
    Run.objects.filter(pk=run.pk).update(cancel_requested_at=F("started_at"))
    assert found(world()) == {"I9", "P8"}


def test_a_step_after_a_cancel_is_found() -> None:
    run = acted()
    Run.objects.filter(pk=run.pk).update(cancel_requested_at=F("finished_at"))
    assert found(world()) == set()
    Step.objects.filter(run=run, number=3).update(started_at=F("started_at") + LATER)
    assert found(world()) == {"P8"}


def test_a_call_left_open_at_the_end_is_found() -> None:
    ToolCall.objects.filter(run=acted()).update(status="running", finished_at=None)
    assert found() == {"I8"}
