"""Tools whose effect is in the project's database: it is committed together with the call's result, or not at all."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, Permission
from django.db import OperationalError, connection, transaction

from agentcore import SYSTEM, ModelRetry, ToolContext, ToolFailed, tool
from agentcore.engine.drive import Outcome
from agentcore.exceptions import UserError
from agentcore.models import Run, ToolCall
from agentcore.services import approvals, runs
from agentcore.streams import hints
from agentcore.testing import Turn, check_invariants, run_until_idle
from tests.faults import postgres
from tests.integration.atomic_room import conflict, drive, drive_and_leave, raises, room, the_call, write_and
from tests.integration.room import Died, die_driving, make, race
from tests.stack import wait_for

real = pytest.mark.django_db(transaction=True)
pytestmark = pytest.mark.covers("fault:M11", "promise:P4")


@tool(effect="atomic")
def book(name: str) -> str:
    """Write a row."""
    Group.objects.create(name=name)
    return f"booked {name}"


@pytest.mark.django_db
def test_what_it_writes_and_its_result_are_there_together_and_a_plain_test_sees_both() -> None:
    run = run_until_idle(room(book).send())
    assert (run.status, the_call().status, the_call().result_json) == ("succeeded", "succeeded", "booked row 0")
    assert Group.objects.get().name == "row 0"
    assert check_invariants([run.pk]) == []


@real
def test_several_at_once_are_each_committed_with_their_own_result() -> None:
    run = room(book, calls=4).send()
    assert drive(run) is Outcome.ENDED
    assert sorted(Group.objects.values_list("name", flat=True)) == [f"row {number}" for number in range(4)]
    assert [call.status for call in ToolCall.objects.all()] == ["succeeded"] * 4
    assert check_invariants([run.pk]) == []


@real
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ToolFailed("no room left"), "no room left"),
        (ModelRetry("another name"), "another name"),
        (KeyError("x"), "The tool broke off with KeyError"),
        (SystemExit(1), "The tool broke off with SystemExit"),
    ],
)
def test_what_it_wrote_before_it_raised_is_taken_back_and_it_has_failed(error: BaseException, told: str) -> None:
    run = room(write_and(lambda: raises(error))).send()
    assert drive(run) is Outcome.ENDED
    assert not Group.objects.exists()
    assert the_call().status == "failed" and told in the_call().error
    assert run_until_idle(run).status == "succeeded"


@real
def test_a_constraint_that_is_checked_at_the_commit_fails_the_call_and_not_the_run() -> None:
    def refer_to_nothing() -> None:
        Permission.objects.create(name="x", codename="x", content_type_id=10**6)

    run = room(write_and(refer_to_nothing)).send()
    assert drive(run) is Outcome.ENDED
    assert not Group.objects.exists()
    assert the_call().status == "failed" and "IntegrityError" in the_call().error


@real
@pytest.mark.postgres
@pytest.mark.covers("promise:P8")
def test_one_whose_run_is_cancelled_is_taken_back_and_called_canceled() -> None:
    @tool(name="book", effect="atomic")
    def wait_for_the_cancel(ctx: ToolContext, name: str) -> None:
        """Write a row, and stay until somebody cancels the run."""
        Group.objects.create(name=name)
        race(lambda: runs.cancel(ctx.run_id, user=SYSTEM))
        wait_for(lambda: ctx.cancelled, 10, "the cancel to arrive")

    run = room(wait_for_the_cancel).send()
    assert drive_and_leave(run) is Outcome.ENDED
    assert (Run.objects.get().status, the_call().status, Group.objects.count()) == ("canceled", "canceled", 0)
    assert check_invariants([run.pk]) == []


@real
@pytest.mark.postgres
@pytest.mark.covers("promise:P2")
def test_one_whose_run_was_taken_over_meanwhile_commits_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def lose_the_run() -> None:
        with postgres.session() as other:
            other.execute("UPDATE agentcore_run SET attempt = attempt + 1")

    run = room(write_and(lose_the_run)).send()
    assert drive(run) is Outcome.LOST
    assert (the_call().status, Group.objects.count()) == ("running", 0)
    assert "tool book" not in caplog.text  # it has done nothing wrong


@real
@pytest.mark.parametrize(
    "error", [ConnectionError("no mail"), ToolFailed("no mail"), conflict(), OperationalError("away"), SystemExit(1)]
)
def test_what_its_hooks_raise_after_the_commit_changes_nothing(
    error: BaseException, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies: list[int] = []
    announced: list[bytes] = []
    monkeypatch.setattr(
        hints, "publish", lambda written: announced.extend(b for item in written for b in item.payloads)
    )

    def leave_a_mail() -> str:
        bodies.append(1)
        transaction.on_commit(lambda: raises(error))
        return "done"

    run = room(write_and(leave_a_mail)).send()
    assert drive(run) is Outcome.ENDED
    assert (Run.objects.get().status, the_call().result_json, Group.objects.count()) == ("succeeded", "done", 1)
    assert len(bodies) == 1 and "on_commit" in caplog.text
    assert any(b'"tool.result"' in payload for payload in announced)


@real
def test_one_that_closes_its_connection_has_failed_and_the_run_goes_on() -> None:
    run = room(write_and(lambda: connection.close())).send()
    assert drive(run) is Outcome.ENDED
    assert (Run.objects.get().status, the_call().status, Group.objects.count()) == ("succeeded", "failed", 0)


@real
def test_a_call_that_was_recorded_as_atomic_is_run_as_what_the_tool_is_by_now() -> None:
    @tool(needs_approval=True)
    def act_and_die() -> None:
        """Take effect somewhere, and be the worker's last deed."""
        raise Died

    run = make([Turn(calls=[("act_and_die", {})]), Turn(text="Done.")], [act_and_die]).play()
    ToolCall.objects.update(effect="atomic")  # as it was when the model asked for it, one release ago
    approval = run.approvals.get()
    approvals.approve(approval.pk, user=SYSTEM, digest=approval.digest)
    die_driving(run)
    assert run_until_idle(run).status == "waiting"
    assert the_call().status == "effect_unverified"


@pytest.mark.once
def test_an_async_function_cannot_be_atomic() -> None:
    with pytest.raises(UserError, match="transactions are sync"):

        @tool(effect="atomic")
        async def book_later() -> None:
            """Write a row, some time."""
