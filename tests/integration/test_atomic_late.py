"""Atomic tools that are late, or that another transaction is in the way of: they commit once, or not at all."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import AbstractUser, Group
from django.db import connection, transaction

from agentcore import ToolContext, ToolFailed, tool
from agentcore.engine.drive import Outcome
from agentcore.engine.runtime import Runtime
from agentcore.engine.steps.body import AtomicBody
from agentcore.models import Run
from agentcore.services import execution
from agentcore.testing import Turn, check_invariants
from agentcore.testing.faults.plans import armed
from tests.faults import postgres
from tests.integration.atomic_room import conflict, drive, drive_and_leave, raises, room, the_call, write_and
from tests.integration.room import log, make
from tests.stack import wait_for

real = pytest.mark.django_db(transaction=True)
pytestmark = pytest.mark.covers("fault:M11", "promise:P4")


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
def test_one_that_is_in_the_way_of_others_every_time_has_failed() -> None:
    run = room(write_and(lambda: raises(conflict()))).send()
    assert drive(run) is Outcome.ENDED
    assert (Run.objects.get().status, the_call().status, Group.objects.count()) == ("succeeded", "failed", 0)
