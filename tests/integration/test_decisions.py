"""Decisions: exactly what was shown, by who may, once."""

from __future__ import annotations

from functools import partial

import pytest
from django.contrib.auth import get_user_model

from agentcore import SYSTEM, Decision, ToolContext, tool
from agentcore.declaration import registry
from agentcore.exceptions import AlreadyDecided, DigestMismatch, Invalid, NotAllowed, NotFound
from agentcore.models import Approval, ToolCall
from agentcore.services import approvals, sending
from agentcore.testing import Turn, run_until_idle
from tests.integration.decision_room import PAID, another_operator, asking, result_of
from tests.integration.room import (
    drive_to_the_end,
    fresh,
    log,
    only_approval,
    race,
    types,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nothing_paid")]


# --- who decides, and how often -----------------------------------------------------------------------------------


@pytest.mark.covers("fault:A3")
def test_the_same_decision_by_the_same_person_is_the_same_answer_and_by_another_a_conflict(operator):
    _, run = asking()
    approval = only_approval(run)
    first = approvals.approve(approval, user=operator, digest=approval.digest, reason="Fine.")
    again = approvals.approve(approval, user=operator, digest=approval.digest, reason="Fine.")
    assert (again.pk, again.decided_at, again.decided_by) == (first.pk, first.decided_at, operator)
    with pytest.raises(AlreadyDecided):
        approvals.approve(approval, user=another_operator("otto"), digest=approval.digest)
    with pytest.raises(AlreadyDecided):
        approvals.deny(approval, user=operator, digest=approval.digest)
    drive_to_the_end(run)
    assert len(PAID) == 1 and types(run).count("approval.response") == 1


@pytest.mark.parametrize("edited", [{"cents": "7"}, {"cents": 7, "note": ""}, {"cents": 1, "note": ""}, {"cents": 1}])
def test_the_same_edit_sent_twice_is_the_same_answer(operator, edited):
    _, run = asking()
    approval = only_approval(run)
    for _ in range(2):
        approvals.approve(approval, user=operator, digest=approval.digest, edited_arguments=edited)
    with pytest.raises(AlreadyDecided):
        approvals.approve(approval, user=operator, digest=approval.digest, edited_arguments={"cents": 8})


def test_an_answer_repeated_after_the_run_has_ended_is_still_the_same_answer(operator):
    _, run = asking()
    approval = only_approval(run)
    approvals.deny(approval, user=operator, digest=approval.digest)
    assert drive_to_the_end(run).status == "succeeded"
    assert approvals.deny(approval, user=operator, digest=approval.digest).status == "denied"


def test_who_may_only_see_an_approval_may_not_decide_it_and_to_others_it_does_not_exist(user, other_user):
    _, run = asking(user=user)
    approval = only_approval(run)
    for person, error in ((user, NotAllowed), (other_user, NotFound)):
        with pytest.raises(error):
            approvals.approve(approval, user=person, digest=approval.digest)
    assert fresh(approval).status == "pending"


@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("fault:A3")
def test_twenty_approvals_at_once_are_one_decision_and_one_effect(operator):
    _, run = asking()
    approval = only_approval(run)
    approve = partial(approvals.approve, approval.pk, user=operator, digest=approval.digest)
    outcomes = race(*[approve] * 20)
    assert {(item.status, item.decided_at) for item in outcomes} == {("approved", outcomes[0].decided_at)}
    assert types(run).count("approval.response") == types(run).count("run.resumed") == 1
    assert drive_to_the_end(run).status == "succeeded"
    assert len(PAID) == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("fault:A4")
def test_of_approve_and_deny_at_once_exactly_one_wins(operator):
    other = another_operator("otto")
    _, run = asking(15)
    for approval in Approval.objects.filter(run=run):
        outcomes = race(
            partial(approvals.approve, approval.pk, user=operator, digest=approval.digest),
            partial(approvals.deny, approval.pk, user=other, digest=approval.digest),
        )
        losers = [item for item in outcomes if isinstance(item, AlreadyDecided)]
        winners = [item for item in outcomes if isinstance(item, Approval)]
        assert len(losers) == len(winners) == 1, outcomes
        assert fresh(approval).status == winners[0].status
    assert drive_to_the_end(run).status == "succeeded"
    assert len(PAID) == Approval.objects.filter(run=run, status="approved").count()
    assert types(run).count("approval.response") == 15


# --- exactly these bytes ------------------------------------------------------------------------------------------


@pytest.mark.covers("fault:A11", "api:AP3")
def test_another_digest_is_refused(operator):
    _, run = asking(2)
    first, second = Approval.objects.filter(run=run).order_by("pk")
    for digest in (second.digest, "", first.digest[:-1]):
        with pytest.raises(DigestMismatch):
            approvals.approve(first, user=operator, digest=digest)
    assert fresh(first).status == "pending" and fresh(run).status == "waiting"


def tamper(approval: Approval, where: str) -> None:
    changed = '{"cents":99999,"note":""}'
    if where != "approval":
        ToolCall.objects.filter(pk=approval.tool_call_id).update(arguments=changed)
    if where != "call":
        Approval.objects.filter(pk=approval.pk).update(arguments=changed)


@pytest.mark.covers("threat:T9", "fault:A11", "promise:P6")
@pytest.mark.parametrize("where", ["call", "approval", "both"])
def test_arguments_changed_after_they_were_shown_cannot_be_approved(operator, where):
    _, run = asking()
    approval = only_approval(run)
    tamper(approval, where)
    with pytest.raises(DigestMismatch):
        approvals.approve(approval, user=operator, digest=approval.digest)
    assert fresh(approval).status == "pending" and PAID == []


@pytest.mark.covers("threat:T9", "promise:P6")
@pytest.mark.parametrize("where", ["call", "approval", "both"])
def test_arguments_changed_after_the_decision_never_run(operator, where):
    room, run = asking()
    approval = only_approval(run)
    approvals.approve(approval, user=operator, digest=approval.digest)
    tamper(approval, where)
    assert drive_to_the_end(run).status == "succeeded"
    assert PAID == [] and result_of(room).status == "failed"
    assert fresh(approval).consumed_at is None


@pytest.mark.covers("fault:A18", "threat:T9")
def test_a_tool_declared_otherwise_since_the_decision_is_asked_for_again(operator):
    room, run = asking()
    approval = only_approval(run)
    approvals.approve(approval, user=operator, digest=approval.digest)

    @tool(name="pay", needs_approval=True)
    def pay_in_euros(ctx: ToolContext, cents: int, note: str = "", currency: str = "EUR") -> None:
        """Pay somebody."""
        PAID.append((ctx.call_id, cents))

    room.agent.definition.tools_by_name["pay"] = pay_in_euros
    assert drive_to_the_end(run).status == "waiting"
    assert PAID == [] and fresh(approval).status == "canceled" and fresh(approval).consumed_at is None
    again = only_approval(run)
    assert again.digest != approval.digest and again.arguments_json["currency"] == "EUR"
    approvals.approve(again, user=operator, digest=again.digest)
    assert drive_to_the_end(run).status == "succeeded"
    assert [cents for _, cents in PAID] == [1]


@pytest.mark.covers("fault:A12", "threat:T11")
def test_a_consumed_approval_never_serves_again(operator):
    _, run = asking()
    approval = only_approval(run)
    approvals.approve(approval, user=operator, digest=approval.digest)
    drive_to_the_end(run)
    consumed = fresh(approval).consumed_at
    assert consumed is not None and len(PAID) == 1
    # A later run of the same thread, with a call of the same name and arguments, has to ask again.
    room = registry.get("test").model
    room.turns += [Turn(calls=[("pay", {"cents": 1})]), Turn(text="Again.")]
    later = run_until_idle(
        sending.send(registry.get("test"), run.thread, "Again", user=SYSTEM),
    )
    assert later.status == "waiting" and len(PAID) == 1
    with pytest.raises(DigestMismatch):
        approvals.approve(only_approval(later), user=operator, digest=approval.digest)


# --- edits --------------------------------------------------------------------------------------------------------


@pytest.mark.covers("api:AP3")
def test_edited_arguments_are_what_runs_and_what_is_shown(operator):
    room, run = asking()
    approval = only_approval(run)
    decided = approvals.approve(approval, user=operator, digest=approval.digest, edited_arguments={"cents": "7"})
    assert decided.arguments_json == {"cents": 1, "note": ""}
    assert decided.edited_arguments_json == {"cents": 7, "note": ""}
    drive_to_the_end(run)
    assert [cents for _, cents in PAID] == [7]
    assert result_of(room).result == {"paid": 7}
    response = next(event for event in log(run) if event["type"] == "approval.response")
    assert response["edited_arguments"] == {"cents": 7, "note": ""}
    assert ToolCall.objects.get(run=run).arguments_json == {"cents": 7, "note": ""}


@pytest.mark.parametrize("edited", [{}, {"cents": "many"}, {"cents": 1, "to": "me"}, {"cents": None}])
def test_edited_arguments_that_the_tool_would_refuse_decide_nothing(operator, edited):
    _, run = asking()
    approval = only_approval(run)
    with pytest.raises(Invalid):
        approvals.approve(approval, user=operator, digest=approval.digest, edited_arguments=edited)
    assert fresh(approval).status == "pending" and fresh(run).status == "waiting"


def test_a_denial_or_an_approval_that_forbids_editing_takes_no_edit(operator):
    _, run = asking()
    approval = only_approval(run)
    edit = {"cents": 2}
    with pytest.raises(Invalid):
        approvals.decide([Decision(approval.pk, "deny", approval.digest, edited_arguments=edit)], user=operator)
    Approval.objects.filter(pk=approval.pk).update(allowed=["approve", "deny"])
    with pytest.raises(Invalid):
        approvals.approve(approval, user=operator, digest=approval.digest, edited_arguments=edit)
    assert fresh(approval).status == "pending"


@pytest.mark.covers("promise:P6")
def test_an_edit_changed_after_the_decision_never_runs(operator):
    room, run = asking()
    approval = only_approval(run)
    approvals.approve(approval, user=operator, digest=approval.digest, edited_arguments={"cents": 2})
    ToolCall.objects.filter(run=run).update(arguments='{"cents":99999,"note":""}')
    drive_to_the_end(run)
    assert PAID == [] and result_of(room).status == "failed"


# --- the right to decide ------------------------------------------------------------------------------------------


@pytest.mark.covers("fault:A10", "promise:P9")
@pytest.mark.parametrize("loss", ["permission", "staff", "active", "account"])
def test_a_decision_of_somebody_who_may_not_decide_any_more_is_not_carried_out(operator, loss):
    room, run = asking()
    approval = only_approval(run)
    approvals.approve(approval, user=operator, digest=approval.digest)
    if loss == "permission":
        operator.user_permissions.clear()
    elif loss == "account":
        operator.delete()
    else:
        get_user_model().objects.filter(pk=operator.pk).update(**{f"is_{loss}": False})
    assert drive_to_the_end(run).status == "succeeded"
    assert PAID == [] and result_of(room).status == "failed"
    assert "may not" in result_of(room).error
    assert fresh(approval).decided_by_name == "olga"


@pytest.mark.covers("fault:A10", "threat:T13")
@pytest.mark.parametrize("loss", ["permission", "account"])
def test_a_person_called_system_is_no_system(loss):
    person = another_operator("SYSTEM")
    room, run = asking()
    approval = only_approval(run)
    approvals.approve(approval, user=person, digest=approval.digest)
    person.user_permissions.clear() if loss == "permission" else person.delete()
    drive_to_the_end(run)
    assert PAID == [] and result_of(room).status == "failed"


@pytest.mark.covers("promise:P6")
def test_what_the_system_decides_is_carried_out():
    _, run = asking()
    approval = only_approval(run)
    approvals.approve(approval, user=SYSTEM, digest=approval.digest)
    drive_to_the_end(run)
    assert len(PAID) == 1


def test_an_approval_that_was_moved_to_another_run_decides_no_call():
    room, run = asking()
    approval = only_approval(run)
    Approval.objects.filter(pk=approval.pk).update(run=room.send())
    with pytest.raises(DigestMismatch):
        approvals.approve(approval, user=SYSTEM, digest=approval.digest)
    assert Approval.objects.get(pk=approval.pk).status == "pending"
