"""A busy thread: a new message waits its turn, is refused, interrupts what runs, or runs beside it."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import AbstractUser
from django.utils import timezone

from agentcore import SYSTEM
from agentcore.exceptions import ThreadBusy
from agentcore.models import Message, Run
from agentcore.states import RunStatus
from agentcore.testing import Turn, run_until_idle
from tests.integration.api_room import Caller, problem
from tests.integration.room import make

pytestmark = pytest.mark.django_db


def claim(run: Run) -> None:
    """Let a worker drive the run, as far as its row is concerned."""
    Run.objects.filter(pk=run.pk).update(
        status=RunStatus.RUNNING, attempt=1, lease_expires_at=timezone.now() + timezone.timedelta(hours=1)
    )


def test_queued_messages_run_one_after_the_other(user: AbstractUser) -> None:
    room = make([Turn(text="one"), Turn(text="two")], user=user)
    first, second = (room.send(text, user=user) for text in "12")
    assert run_until_idle(second).status == RunStatus.PENDING
    assert run_until_idle(first).status == RunStatus.SUCCEEDED
    assert run_until_idle(second).status == RunStatus.SUCCEEDED


def test_the_end_of_a_run_announces_the_next_one(user: AbstractUser) -> None:
    room = make([Turn(text="one")], user=user)
    first, second = (room.send(text, user=user) for text in "12")
    Run.objects.filter(pk=second.pk).update(dispatched_at=None, dispatch_count=0)
    run_until_idle(first)
    assert Run.objects.get(pk=second.pk).dispatch_count == 1


@pytest.mark.parametrize("driven", [False, True], ids=["pending", "running"])
def test_a_busy_thread_rejects(user: AbstractUser, driven: bool) -> None:
    room = make([Turn(text="one"), Turn(text="two")], user=user, on_busy="reject")
    first = room.send("1", user=user, key="1")
    if driven:
        claim(first)
    with pytest.raises(ThreadBusy):
        room.send("2", user=user, key="2")
    assert Message.objects.count() == 1
    assert room.send("1", user=user, key="1") == first  # a repeated request is answered, not refused
    room.agent.runs.cancel(first, user=SYSTEM)
    if driven:
        Run.objects.filter(pk=first.pk).update(status="canceled", finished_at=timezone.now(), lease_expires_at=None)
    assert room.send("2", user=user, key="2").number == 2


def test_over_http_a_busy_thread_is_a_409_problem(user: AbstractUser) -> None:
    room = make([], user=user, on_busy="reject")
    caller, path = Caller(user), f"threads/{room.thread.pk}/runs"
    assert caller.post(path, {"agent": "test", "text": "1"}).status_code == 201
    problem(caller.post(path, {"agent": "test", "text": "2"}), 409, "thread_busy")


def test_a_new_message_interrupts_what_is_not_driven_at_once(user: AbstractUser) -> None:
    room = make([Turn(text="two")], user=user, on_busy="interrupt")
    first = room.send("1", user=user, key="1")
    second = room.send("2", user=user, key="2")
    first.refresh_from_db()
    assert (first.status, first.cancel_reason) == (RunStatus.CANCELED, "A new message has come.")
    assert room.send("2", user=user, key="2") == second
    assert run_until_idle(second).status == RunStatus.SUCCEEDED


def test_a_new_message_asks_the_worker_of_a_driven_run_to_end_it_and_waits_its_turn(user: AbstractUser) -> None:
    room = make([], user=user, on_busy="interrupt")
    first = room.send("1", user=user)
    claim(first)
    second = room.send("2", user=user)
    first.refresh_from_db()
    assert first.status == RunStatus.RUNNING and first.cancel_requested_at is not None
    assert run_until_idle(second).status == RunStatus.PENDING


def test_parallel_runs_do_not_wait_for_each_other(user: AbstractUser) -> None:
    room = make([Turn(text="two")], user=user, on_busy="parallel")
    claim(room.send("1", user=user))
    second = run_until_idle(room.send("2", user=user))
    assert second.status == RunStatus.SUCCEEDED
