"""Tools whose effect is in the project's database: it is committed together with the call's result, or not at all."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import AbstractUser, Group, Permission
from django.db import OperationalError, connection, transaction

from agentcore import SYSTEM, ModelRetry, Tool, ToolContext, ToolFailed, tool
from agentcore.engine.drive import Outcome
from agentcore.engine.runtime import Runtime
from agentcore.engine.steps.body import AtomicBody
from agentcore.exceptions import UserError
from agentcore.models import Run, ToolCall
from agentcore.services import approvals, execution, runs
from agentcore.streams import hints
from agentcore.testing import Turn, check_invariants, run_until_idle
from agentcore.testing.faults.plans import armed
from tests.faults import postgres
from tests.integration.room import Died, Room, die_driving, log, make, race
from tests.stack import wait_for

real = pytest.mark.django_db(transaction=True)
pytestmark = pytest.mark.covers("fault:M11", "promise:P4")


@tool(effect="atomic")
def book(name: str) -> str:
    """Write a row."""
    Group.objects.create(name=name)
    return f"booked {name}"


def write_and(then: Callable[[], Any], **options: Any) -> Tool:
    """An atomic tool that writes a row, and does something after it."""

    @tool(name="book", effect="atomic", **options)
    def write(name: str) -> Any:
        """Write a row, and go on."""
        Group.objects.create(name=name)
        return then()

    return write


def raises(error: BaseException) -> Any:
    raise error


def room(*tools: Tool, calls: int = 1) -> Room:
    asked = [(tools[0].name, {"name": f"row {number}"}) for number in range(calls)]
    return make([Turn(calls=asked), Turn(text="Done.")], tools)


def drive(run: Run) -> Outcome:
    return execution.drive(run.pk)


def drive_and_leave(run: Run, meanwhile: Callable[[], Any] = lambda: None) -> Outcome:
    """Drive a run whose body stays behind in its thread, do something, and wait until that thread is done."""
    runtime = Runtime("worker")

    async def drive_and_close() -> Outcome:
        outcome = await execution.adrive(run.pk, runtime)
        await runtime.aclose()
        return outcome

    outcome = async_to_sync(drive_and_close)()
    meanwhile()
    wait_for(lambda: not runtime.threads.stuck(), 20, "the body to end")
    return outcome


def the_call() -> ToolCall:
    return ToolCall.objects.get()


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


@pytest.fixture
def withdrawn(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when a body's time is over, before anything else is made of that."""
    really, over = AtomicBody.withdraw, threading.Event()

    def withdraw(self: AtomicBody) -> None:
        really(self)
        over.set()

    monkeypatch.setattr(AtomicBody, "withdraw", withdraw)
    return over


@real
def test_one_that_takes_too_long_has_failed_and_commits_nothing_later(withdrawn: threading.Event) -> None:
    runtime = Runtime("worker")

    def returned() -> Any:
        """Let the body end before it is committed that it has failed: it might commit now."""
        if threading.current_thread().name.startswith("agentcore-app"):
            return None
        return asyncio.to_thread(wait_for, lambda: not runtime.threads.stuck(), 10, "the body to end")

    async def drive_and_close() -> Outcome:
        outcome = await execution.adrive(run.pk, runtime)
        await runtime.aclose()
        return outcome

    run = room(write_and(lambda: withdrawn.wait(10), timeout=0.1)).send()
    with armed(after_tool_return=returned):
        assert async_to_sync(drive_and_close)() is Outcome.ENDED
    assert the_call().status == "failed" and "did not end within 0.1 seconds" in the_call().error
    assert (Run.objects.get().status, Group.objects.count()) == ("succeeded", 0)


@real
def test_one_that_is_being_committed_when_its_time_is_over_has_happened(withdrawn: threading.Event) -> None:
    run = room(write_and(lambda: "done", timeout=0.3)).send()

    def slow_commit() -> None:
        if threading.current_thread().name.startswith("agentcore-app"):
            assert withdrawn.wait(10)

    with armed(before_commit=slow_commit):
        assert drive(run) is Outcome.ENDED
    assert (Run.objects.get().status, Group.objects.count()) == ("succeeded", 1)
    assert (the_call().status, the_call().result_json) == ("succeeded", "done")
    assert check_invariants([run.pk]) == []


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
@pytest.mark.postgres
@pytest.mark.covers("fault:D4")
def test_one_that_another_transaction_was_in_the_way_of_runs_again_as_a_whole() -> None:
    Group.objects.create(name="shared")
    tries: list[int] = []
    with postgres.session() as rival:
        rival.execute("BEGIN")
        rival.execute("SELECT 1 FROM auth_group FOR UPDATE")

        def take_the_shared_row() -> int:
            tries.append(Group.objects.count())
            if len(tries) == 2:
                rival.execute("COMMIT")
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '50ms'")
            return Group.objects.select_for_update().get(name="shared").pk

        run = room(write_and(take_the_shared_row)).send()
        assert drive(run) is Outcome.ENDED
    assert tries == [2, 2]  # the first try's row was taken back before the second
    assert the_call().status == "succeeded" and Group.objects.count() == 2


class Serialization(Exception):
    """What a driver raises where another transaction was in the way."""

    sqlstate = "40001"


def conflict() -> OperationalError:
    error = OperationalError("another transaction was in the way")
    error.__cause__ = Serialization()
    return error


@real
def test_each_try_has_its_own_arguments_user_and_progress(user: AbstractUser) -> None:
    tries: list[str] = []

    @tool(effect="atomic", retries=1)
    def book_all(ctx: ToolContext, names: list[str]) -> int:
        """Write rows, and use up what it was given on the way."""
        made = 0
        while names:
            Group.objects.create(name=names.pop())
            made += 1
        tries.append(ctx.user.first_name)
        ctx.user.first_name += "!"
        ctx.progress(len(tries))
        if len(tries) < 3:
            raise [ToolFailed("once more"), conflict()][len(tries) - 1]
        return made

    room = make([Turn(calls=[("book_all", {"names": ["a", "b"]})]), Turn(text="Done.")], [book_all], user=user)
    run = room.agent.runs.send(room.thread, "Go", user=user)
    assert drive(run) is Outcome.ENDED
    assert (the_call().result_json, Group.objects.count()) == (2, 2)
    assert tries == [user.first_name] * 3
    shown = [event.get("value", event["type"]) for event in log(run) if event["type"].startswith("tool.")]
    assert shown == ["tool.call", 3, "tool.result"]


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
def test_a_hook_that_hangs_keeps_the_run_no_longer_than_the_tool_may_take() -> None:
    over = threading.Event()

    def leave_a_mail() -> None:
        transaction.on_commit(lambda: over.wait(20))

    run = room(write_and(leave_a_mail, timeout=0.3)).send()
    held: list[bool] = []

    def let_go() -> None:
        held.append(not over.is_set())
        over.set()

    assert drive_and_leave(run, let_go) is Outcome.ENDED
    assert held == [True] and (Run.objects.get().status, the_call().status) == ("succeeded", "succeeded")


@real
def test_one_whose_time_is_over_does_not_begin_again(withdrawn: threading.Event) -> None:
    bodies: list[int] = []

    def be_in_the_way() -> None:
        bodies.append(1)
        withdrawn.wait(10)
        raise conflict()

    run = room(write_and(be_in_the_way, timeout=0.1)).send()
    assert drive_and_leave(run) is Outcome.ENDED
    assert len(bodies) == 1 and the_call().status == "failed"


@real
def test_one_that_is_in_the_way_of_others_every_time_has_failed() -> None:
    run = room(write_and(lambda: raises(conflict()))).send()
    assert drive(run) is Outcome.ENDED
    assert (Run.objects.get().status, the_call().status, Group.objects.count()) == ("succeeded", "failed", 0)


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
