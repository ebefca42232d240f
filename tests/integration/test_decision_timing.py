"""Decisions in time: expiry, cancel, many together, and at the very moment the run suspends."""

from __future__ import annotations

import threading
from datetime import timedelta
from functools import partial

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from agentcore import SYSTEM, Decision
from agentcore.declaration import registry
from agentcore.exceptions import AlreadyDecided, ApprovalExpired, DigestMismatch, Invalid, NotFound, RunEnded
from agentcore.models import Approval, ToolCall
from agentcore.services import approvals, execution, runs
from agentcore.services.sweep import sweep
from agentcore.testing import Turn
from agentcore.testing.faults.plans import armed
from tests.integration.decision_room import PAID, add, approve_while_running, asking, pay, result_of
from tests.integration.room import (
    assert_ended_once,
    drive_to_the_end,
    fresh,
    make,
    only_approval,
    race,
    types,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nothing_paid")]


# --- time, cancel, several at once --------------------------------------------------------------------------------


@pytest.mark.covers("fault:A9")
def test_an_expired_approval_is_refused_then_denied_by_the_sweep_and_the_model_is_told(operator):
    room, run = asking()
    approval = only_approval(run)
    Approval.objects.filter(pk=approval.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    with pytest.raises(ApprovalExpired):
        approvals.approve(approval, user=operator, digest=approval.digest)
    assert fresh(approval).status == "pending"
    assert sweep().expired == 1
    assert fresh(approval).status == "expired" and fresh(run).status == "pending"
    with pytest.raises(AlreadyDecided):
        approvals.approve(approval, user=operator, digest=approval.digest)
    assert drive_to_the_end(run).status == "succeeded"
    assert PAID == [] and result_of(room).status == "denied" and "in time" in result_of(room).error


def test_the_expiry_of_one_of_two_leaves_the_run_waiting_for_the_other(operator):
    _, run = asking(2)
    first, second = Approval.objects.filter(run=run).order_by("pk")
    Approval.objects.filter(pk=first.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    sweep()
    assert fresh(run).status == "waiting" and fresh(second).status == "pending"
    approvals.approve(second, user=operator, digest=second.digest)
    assert drive_to_the_end(run).status == "succeeded"
    assert [cents for _, cents in PAID] == [second.arguments_json["cents"]]


@pytest.mark.covers("fault:A5", "fault:A6")
def test_nothing_is_decided_after_a_cancel(operator):
    _, run = asking()
    approval = only_approval(run)
    runs.cancel(run, user=SYSTEM)
    for decide in (approvals.approve, approvals.deny):
        with pytest.raises(RunEnded):
            decide(approval, user=operator, digest=approval.digest)
    assert_ended_once(run, "canceled")
    assert PAID == [] and fresh(approval).status == "canceled"


@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("fault:A5", "promise:P8")
def test_of_cancel_and_approve_at_once_the_run_ends_either_way(operator):
    for _ in range(8):
        with registry.isolated():
            PAID.clear()
            _, run = asking()
            approval = only_approval(run)
            approved, canceled = race(
                partial(approvals.approve, approval.pk, user=operator, digest=approval.digest),
                partial(runs.cancel, run.pk, user=SYSTEM),
            )
            assert not isinstance(canceled, BaseException), canceled
            assert isinstance(approved, Approval | RunEnded), approved
            assert_ended_once(run, "canceled")
            drive_to_the_end(run)
            assert PAID == []


@pytest.mark.covers("api:AP2")
def test_a_batch_with_one_stale_decision_decides_nothing(operator):
    _, run = asking(3)
    rows = list(Approval.objects.filter(run=run).order_by("pk"))
    before = types(run)
    decisions = [Decision(row.pk, "approve", row.digest) for row in rows]
    for stale in (
        Decision(rows[1].pk, "approve", "0" * 64),
        Decision(rows[1].pk, "approve", rows[1].digest, edited_arguments={"cents": "x"}),
        Decision(rows[1].pk, "perhaps", rows[1].digest),  # type: ignore[arg-type]
        Decision(rows[0].pk, "deny", rows[0].digest),
        Decision("00000000-0000-0000-0000-000000000000", "deny", rows[0].digest),
    ):
        with pytest.raises((DigestMismatch, Invalid, NotFound)):
            approvals.decide([decisions[0], stale, decisions[2]], user=operator)
    assert types(run) == before
    assert {fresh(row).status for row in rows} == {"pending"} and fresh(run).status == "waiting"


def test_a_batch_over_two_runs_is_all_or_nothing_too(operator):
    room = make([Turn(calls=[("pay", {"cents": 1})])] * 2, [pay], on_busy="parallel")
    first, second = room.play(), room.play()
    both = [only_approval(first), only_approval(second)]
    runs.cancel(second, user=SYSTEM)
    with pytest.raises(RunEnded):
        approvals.decide([Decision(row.pk, "approve", row.digest) for row in both], user=operator)
    assert fresh(both[0]).status == "pending" and fresh(first).status == "waiting"


@pytest.mark.covers("api:AP1", "fault:A15")
def test_five_calls_two_at_once_three_decided_together_and_the_model_reads_five_results(operator):
    calls = [("add", {"a": 1, "b": 1}), *[("pay", {"cents": cents}) for cents in (1, 2, 3)], ("add", {"a": 2, "b": 2})]
    room = make([Turn(calls=calls), Turn(text="Done.")], [pay, add])
    run = room.play()
    assert run.status == "waiting" and types(run).count("tool.result") == 2
    rows = list(Approval.objects.filter(run=run).order_by("pk"))
    verdicts = ("approve", "deny", "approve")
    batch = [Decision(row.pk, verdict, row.digest) for row, verdict in zip(rows, verdicts, strict=True)]
    approvals.decide(batch, user=operator)
    assert fresh(run).status == "pending" and fresh(run).dispatched_at is not None
    assert drive_to_the_end(run).status == "succeeded"
    assert sorted(cents for _, cents in PAID) == [1, 3]
    said = [part for item in room.model.requests[1].messages for part in item.parts if part.type == "tool-result"]
    assert sorted(part.status for part in said) == ["denied", *["succeeded"] * 4]
    assert len(room.model.requests) == 2 and types(run).count("run.resumed") == 1


@pytest.mark.covers("api:AP2")
@pytest.mark.parametrize("verdict", ["approve", "deny"])
def test_a_hundred_decisions_of_one_run_take_as_many_queries_as_ten(operator, verdict):
    def count(approvals_of_the_run: int) -> int:
        with registry.isolated():
            _, run = asking(approvals_of_the_run)
            rows = Approval.objects.filter(run=run)
            batch = [Decision(row.pk, verdict, row.digest, reason="All alike.") for row in rows]
            person = get_user_model().objects.get(pk=operator.pk)
            with CaptureQueriesContext(
                connection,
            ) as seen:
                approvals.decide(batch, user=person)
            assert fresh(run).status == "pending"
            assert types(run).count("approval.response") == approvals_of_the_run
            return len(seen)

    # A statement takes 200 rows of a log, and fewer values on SQLite.
    assert count(100) <= count(10) + 4


# --- a decision and its run at the same time ----------------------------------------------------------------------


@pytest.mark.covers("fault:A15")
def test_a_decision_on_a_running_run_is_recorded_and_the_run_never_waits(operator):
    calls = [("pay", {"cents": 5}), ("approve_while_running", {})]
    room = make([Turn(calls=calls), Turn(text="Done.")], [pay, approve_while_running])
    run = room.play()
    assert run.status == "succeeded" and [cents for _, cents in PAID] == [5]
    assert "run.waiting" not in types(run) and "run.resumed" not in types(run)
    assert ToolCall.objects.get(run=run, name="approve_while_running").result_json == "running"


@pytest.mark.covers("promise:P1")
@pytest.mark.parametrize("decide", [approvals.approve, approvals.deny])
def test_a_decision_just_before_the_run_suspends_keeps_it_running(decide):
    def decide_it() -> None:
        row = Approval.objects.get()
        decide(row, user=SYSTEM, digest=row.digest)

    with armed(before_suspend=sync_to_async(decide_it)):
        _, run = asking()
    assert_ended_once(run, "succeeded")
    assert "run.waiting" not in types(run) and len(PAID) == (decide is approvals.approve)


@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("promise:P1")
def test_a_decision_at_the_very_moment_of_suspending_is_never_lost():
    """Both arrive at the run's row together: whoever is second must see what the first has done."""
    ended = {"waited": 0, "went on": 0}
    for _ in range(20 if connection.vendor == "postgresql" else 8):
        with registry.isolated():
            room = make([Turn(calls=[("pay", {"cents": 1})]), Turn(text="Done.")], [pay])
            run = room.send()
            moment = threading.Barrier(2)

            def approve(run=run, moment=moment) -> None:
                moment.wait(20)
                row = only_approval(run)
                approvals.approve(row, user=SYSTEM, digest=row.digest)

            with armed(before_suspend=partial(moment.wait, 20)):
                driven, decided = race(partial(execution.drive, run.pk), approve)
            assert decided is None and not isinstance(driven, BaseException), (driven, decided)
            status = fresh(run).status
            assert status in ("pending", "succeeded"), f"{status} after {driven}: the wake-up is lost"
            ended["waited" if status == "pending" else "went on"] += 1
            if status == "pending":
                assert fresh(run).dispatched_at is not None
                drive_to_the_end(run)
            assert_ended_once(run, "succeeded")
    assert len(PAID) == sum(ended.values())


def test_a_run_given_back_with_an_open_approval_can_still_be_decided(operator, settings):
    settings.AGENTCORE = {**settings.AGENTCORE, "SLICE_SECONDS": 0.05}
    calls = [("add", {"a": 1, "b": 1}), ("pay", {"cents": 5})]
    room = make([Turn(deltas=["Hm."], delay=0.1, calls=calls), Turn(text="Done.")], [pay, add])
    run = room.send()
    assert execution.drive(run.pk) == "released"
    assert fresh(run).status == "pending"
    assert fresh(run).dispatched_at is not None, "nobody was told that the run may go on"
    approval = only_approval(run)
    approvals.approve(approval, user=operator, digest=approval.digest)
    assert fresh(run).status == "pending" and "run.resumed" not in types(run)
    settings.AGENTCORE = {**settings.AGENTCORE, "SLICE_SECONDS": 60}
    assert drive_to_the_end(run).status == "succeeded"
    assert [cents for _, cents in PAID] == [5]


def test_a_slice_that_is_over_at_its_claim_still_has_a_step(settings):
    settings.AGENTCORE = {**settings.AGENTCORE, "SLICE_SECONDS": 1e-9}
    run = make([Turn(calls=[("add", {"a": 1, "b": 1})]), Turn(text="Done.")], [add]).send()
    outcomes = [str(execution.drive(run.pk)) for _ in range(3)]
    assert outcomes == ["released", "released", "ended"]
    assert fresh(run).status == "succeeded" and fresh(run).attempt == 3
