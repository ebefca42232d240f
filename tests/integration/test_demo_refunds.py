"""Refunds of the support desk: looked up, asked for, decided, paid once, reported as they are."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import AbstractUser

from agentcore import Usage
from agentcore.exceptions import RequestError, ToolFailed
from agentcore.models import Approval, Message, Run
from agentcore.testing import run_until_idle
from agentcore.values.jsontext import MAX_SAFE_INTEGER
from supportdemo.cases.agents import support
from supportdemo.cases.billing import charges, settle
from supportdemo.cases.models import Case, Order, Refund, UsageCharge
from supportdemo.cases.tools import issue_refund, lookup_order
from supportdemo.knowledge.seed import seed_articles

from .demo import FakeContext, client_of, post

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEMO_MODEL", "offline")
    monkeypatch.setenv("DEMO_MODEL_DELAY", "0")


# --- refunds ----------------------------------------------------------------------------------------------------


@pytest.fixture
def order(user: AbstractUser) -> Order:
    return Order.objects.create(number="A-1001", customer=user, item="Espresso machine", total_cents=10_000)


@pytest.mark.covers("threat:T16")
def test_tools_serve_the_customers_own_orders_only(user: AbstractUser, other_user: AbstractUser, order: Order) -> None:
    assert lookup_order(FakeContext(user), number=" a-1001 ")["refundable_cents"] == 10_000
    for stranger in (other_user, None):
        with pytest.raises(ToolFailed, match="no order A-1001"):
            lookup_order(FakeContext(stranger), number="A-1001")
        with pytest.raises(ToolFailed, match="no order A-1001"):
            issue_refund(FakeContext(stranger), order="A-1001", amount_cents=1, reason="mine")
    assert not Refund.objects.exists()


def test_refund_is_made_once_for_each_key(user: AbstractUser, order: Order) -> None:
    results = [
        issue_refund(FakeContext(user, key), order="A-1001", amount_cents=4_000, reason="late")
        for key in ("key-1", "key-1", "key-2")
    ]
    assert results[0] == {**results[1], "refundable_cents": 6_000} and results[0]["refund"] != results[2]["refund"]
    order.refresh_from_db()
    assert order.refunded_cents == 8_000 and Refund.objects.count() == 2


def test_refund_over_what_is_left_is_not_made(user: AbstractUser, order: Order) -> None:
    issue_refund(FakeContext(user), order="A-1001", amount_cents=9_000, reason="late")
    with pytest.raises(ToolFailed, match="1000 cents left"):
        issue_refund(FakeContext(user, "key-2"), order="A-1001", amount_cents=1_001, reason="more")
    order.refresh_from_db()
    assert order.refunded_cents == 9_000 and Refund.objects.count() == 1


# --- a case from end to end -------------------------------------------------------------------------------------


def waiting_refund(user: AbstractUser, case: Case) -> tuple[Run, Approval]:
    """Ask for a refund and drive the run until it waits for a decision."""
    seed_articles()
    post(client_of(user), case, text="A-1001 is late. I want my money back.")
    run = Run.objects.get()
    run_until_idle(run)
    run.refresh_from_db()
    assert run.status == "waiting" and not Refund.objects.exists()
    return run, Approval.objects.get()


@pytest.mark.covers("api:DM1")
def test_approved_refund_is_made_and_reported(
    user: AbstractUser, supervisor: AbstractUser, case: Case, order: Order
) -> None:
    run, approval = waiting_refund(user, case)
    assert Case.objects.with_status().get().status == "waiting"
    support.tools.approve(approval.pk, user=supervisor, digest=approval.digest)
    run_until_idle(run)
    run.refresh_from_db()
    assert run.status == "succeeded" and run.output["refund"] == "made"
    assert Refund.objects.get().approved_by == supervisor
    answer = Message.objects.filter(author_kind="agent").in_order().last()
    assert answer is not None and "100.00 EUR" in answer.text and "has been made" in answer.text
    assert "Our article" in answer.text


@pytest.mark.covers("api:AP4")
def test_denied_refund_is_not_made_and_the_reason_is_told(
    user: AbstractUser, supervisor: AbstractUser, case: Case, order: Order
) -> None:
    run, approval = waiting_refund(user, case)
    support.tools.deny(approval.pk, user=supervisor, digest=approval.digest, reason="It arrives today.")
    run_until_idle(run)
    run.refresh_from_db()
    assert run.status == "succeeded" and run.output["refund"] == "denied"
    assert not Refund.objects.exists()
    answer = Message.objects.filter(author_kind="agent").in_order().last()
    assert answer is not None and "no refund was made" in answer.text and "“It arrives today.”" in answer.text


def test_edited_refund_reports_what_was_paid(
    user: AbstractUser, supervisor: AbstractUser, case: Case, order: Order
) -> None:
    run, approval = waiting_refund(user, case)
    edited = {**approval.arguments_json, "amount_cents": 2_500}
    approved = {"user": supervisor, "digest": approval.digest, "edited_arguments": edited}
    support.tools.approve(approval.pk, **approved)
    run_until_idle(run)
    assert Refund.objects.get().amount_cents == 2_500
    answer = Message.objects.filter(author_kind="agent").in_order().last()
    assert answer is not None and "The refund of 25.00 EUR" in answer.text


def test_customer_does_not_decide_the_own_refund(user: AbstractUser, case: Case, order: Order) -> None:
    _, approval = waiting_refund(user, case)
    with pytest.raises(RequestError):
        support.tools.approve(approval.pk, user=user, digest=approval.digest)
    assert Approval.objects.get().status == "pending"


@pytest.mark.covers("fc:B5")
@pytest.mark.parametrize(
    "usage",
    [
        Usage(26 * 10**9, 26 * 10**9, 52 * 10**9).to_json(),
        Usage(MAX_SAFE_INTEGER, MAX_SAFE_INTEGER, MAX_SAFE_INTEGER).to_json(),
        {
            "v": 1,
            "input_tokens": -5,
            "output_tokens": 1e20,
            "total_tokens": None,
            "details": None,
        },  # of another release
    ],
    ids=["billions", "the largest sum", "no counts"],
)
def test_no_usage_of_an_earlier_run_keeps_a_customer_from_writing(
    user: AbstractUser, case: Case, usage: dict[str, Any]
) -> None:
    post(client_of(user), case)
    run_until_idle(Run.objects.get())
    Run.objects.update(usage=usage)
    assert post(client_of(user), case, key="key-00000002").status_code < 400
    assert Run.objects.count() == 2
    assert UsageCharge.objects.get().tokens == Usage.from_json(usage).total_tokens


def test_ended_runs_are_charged_once(user: AbstractUser, supervisor: AbstractUser, case: Case) -> None:
    post(client_of(user), case)
    settle(case)
    assert not UsageCharge.objects.exists()  # it has not ended
    run_until_idle(Run.objects.get())
    [quoted] = charges(case)
    settle(case)
    settle(case)
    booked = UsageCharge.objects.get()
    assert (booked.tokens, booked.cents) == (quoted.tokens, quoted.cents) and booked.tokens > 0
    page = client_of(supervisor).get(f"/cases/{case.pk}/")
    assert [charge.tokens for charge in page.context["charges"]] == [booked.tokens]
