"""Sending: once for each key, in turn where a thread is busy, and again where a run may be retried."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.models import AbstractUser
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from agentcore import SYSTEM, Agent
from agentcore.exceptions import Conflict, Invalid, KeyConflict, NotFound, RunActive, ThreadBusy, UserError
from agentcore.models import Message, Run, Thread, ToolCall
from agentcore.services import messages
from agentcore.states import RunStatus, ToolCallStatus
from agentcore.streams import log
from agentcore.streams.models import Record, Stream
from agentcore.testing import Turn, run_until_idle
from tests.integration.doomed import TOOLS
from tests.integration.room import make

MANY = 50


def at_once(count: int, act: Callable[[int], Any]) -> list[Any]:
    """Do it on so many threads at the same moment, each with a connection of its own."""
    together = threading.Barrier(count, timeout=60)

    def one(number: int) -> Any:
        together.wait()
        try:
            return act(number)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(count) as pool:
        return [*pool.map(one, range(count))]


def post(client: Client, thread: Thread, **body: Any) -> Any:
    return client.post(f"/agent/threads/{thread.pk}/runs", json.dumps(body), content_type="application/json")


# --- keys ---------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("api:I1", "fault:A1")
@pytest.mark.parametrize("on_busy", ["queue", "reject", "interrupt", "parallel"])
def test_fifty_identical_sends_at_once_make_one_message_and_one_run(user: AbstractUser, on_busy: str) -> None:
    room = make([], user=user, on_busy=on_busy)
    found = at_once(MANY, lambda number: room.agent.runs.send(room.thread.pk, "Where is it?", user=user, key="k").pk)
    (run,) = Run.objects.all()
    assert set(found) == {run.pk} and (run.status, run.number) == (RunStatus.PENDING, 1)
    assert [message.text for message in Message.objects.all()] == ["Where is it?"]
    assert [event["type"] for event in room.agent.events.read(run, user=SYSTEM).events] == ["run.created"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("api:I1", "fault:A1")
def test_identical_posts_at_once_are_one_201_and_the_same_run_for_all(thread: Thread, user: AbstractUser) -> None:
    client = Client()
    client.force_login(user)

    def send(number: int) -> tuple[int, str]:
        own = Client()
        own.cookies = client.cookies
        answer = post(own, thread, agent="echo", text="Hi", key="k")
        return answer.status_code, answer.json()["id"]

    answers = at_once(10, send)
    assert sorted(status for status, _ in answers) == [200] * 9 + [201]
    assert len({run for _, run in answers}) == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("api:I1")
def test_different_messages_at_once_are_all_kept_each_in_its_own_turn(user: AbstractUser) -> None:
    room = make([], user=user)
    at_once(8, lambda number: room.agent.runs.send(room.thread.pk, f"{number}", user=user, key=f"{number}"))
    assert sorted(Message.objects.values_list("order", "step_order")) == [(turn, 0) for turn in range(8)]
    assert sorted(Run.objects.values_list("number", flat=True)) == [*range(1, 9)]
    seqs = [json.loads(entry.data)["seq"] for entry in log.read(room.thread.stream_id)]
    assert seqs == [*range(len(seqs))]


@pytest.mark.django_db
@pytest.mark.covers("api:I1", "fault:A1")
@pytest.mark.parametrize(
    "other",
    [{"content": "Another text"}, {"metadata": {"a": 2}}, {"content": [{"type": "text", "text": "Hi"}] * 2}],
    ids=["text", "metadata", "parts"],
)
def test_the_same_key_with_another_input_is_a_conflict(user: AbstractUser, other: dict[str, Any]) -> None:
    room = make([], user=user)
    first: dict[str, Any] = {"content": "Hi", "user": user, "key": "k", "metadata": {"a": 1}}
    run = room.send(**first)
    with pytest.raises(KeyConflict):
        room.send(**{**first, **other})
    assert room.send(**first) == run
    assert Run.objects.count() == Message.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.covers("api:I1")
def test_a_key_counts_in_its_thread_and_for_its_agent_also_after_the_run(user: AbstractUser) -> None:
    room = make([Turn(text="ok")], user=user)
    other = Agent(name="other", model=room.model)
    elsewhere = other.threads.create(user=user)
    run = run_until_idle(room.send("Hi", user=user, key="k"))
    assert room.send("Hi", user=user, key="k") == run
    assert len({run.pk, other.runs.send(room.thread, "Hi", user=user, key="k").pk,
                room.agent.runs.send(elsewhere, "Hi", user=user, key="k").pk}) == 3  # fmt: skip
    unkeyed = {room.send("Hi", user=user).pk for _ in range(2)}
    assert len(unkeyed) == 2


@pytest.mark.django_db
@pytest.mark.covers("api:I1")
def test_over_http_the_same_key_is_200_and_another_text_under_it_a_409_problem(
    thread: Thread, user: AbstractUser, client: Client
) -> None:
    client.force_login(user)
    first = post(client, thread, agent="echo", text="Hi", key="k")
    again = post(client, thread, agent="echo", text="Hi", key="k")
    other = post(client, thread, agent="echo", text="Hello", key="k")
    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 409)
    assert first.json()["id"] == again.json()["id"]
    assert other["Content-Type"] == "application/problem+json"
    problem = other.json()
    assert (problem["status"], problem["code"]) == (409, "key_conflict") and problem["id"] and problem["detail"]
    assert Message.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("", {}),
        (" \n\t", {}),
        ([], {}),
        ("x" * 200_001, {}),
        ("Hi", {"key": "k" * 201}),
        ([{"type": "html"}], {}),
        ([{"type": "text", "text": None}], {}),
    ],
    ids=["empty", "blank", "no parts", "too long", "long key", "unknown part", "no text"],
)
def test_what_is_no_message_is_refused_and_leaves_nothing(
    user: AbstractUser, content: Any, options: dict[str, Any]
) -> None:
    room = make([], user=user)
    with pytest.raises(Invalid):
        room.send(content, user=user, **options)
    assert not Run.objects.exists() and not Message.objects.exists()


@pytest.mark.once
@pytest.mark.django_db
@pytest.mark.parametrize("on_busy", ["queue", "parallel"])
def test_a_send_reads_once_and_writes_with_one_statement_a_table(user: AbstractUser, on_busy: str) -> None:
    room = make([], user=user, on_busy=on_busy)
    with CaptureQueriesContext(connection) as queries:
        room.agent.runs.send(room.thread.pk, "Hi", user=user, key="k")
    # Of what goes round Django's cursor, as inserts do on PostgreSQL, nothing is seen.
    said = [query["sql"].split()[0] for query in queries if "SAVEPOINT" not in query["sql"]]
    assert said.count("SELECT") == 1 and len(said) <= 7


@pytest.mark.django_db
def test_nobody_is_not_a_sender(user: AbstractUser) -> None:
    room = make([], user=user)
    with pytest.raises(UserError, match="SYSTEM"):
        room.send("Hi", user=None)


@pytest.mark.django_db
@pytest.mark.covers("api:I1")
@pytest.mark.parametrize("on_busy", ["queue", "reject", "interrupt", "parallel"])
def test_a_repeated_request_changes_nothing(user: AbstractUser, on_busy: str) -> None:
    room = make([], user=user, on_busy=on_busy)
    first = room.send("1", user=user, key="1")
    room.agent.runs.cancel(first, user=user)
    room.send("2", user=user, key="2")
    before = [*Thread.objects.values(), *Run.objects.values(), *Stream.objects.values(), *Record.objects.values()]
    assert room.send("1", user=user, key="1").pk == first.pk
    assert [
        *Thread.objects.values(),
        *Run.objects.values(),
        *Stream.objects.values(),
        *Record.objects.values(),
    ] == before


@pytest.mark.django_db
def test_who_read_the_thread_before_somebody_elses_send_gets_the_next_places(
    user: AbstractUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = make([], user=user)
    really, sent = messages.writable, []

    def overtaken(*args: Any, **options: Any) -> Thread:
        found = really(*args, **options)
        if not sent:
            sent.append(True)
            sent.append(room.send("1", user=user))
        return found

    monkeypatch.setattr(messages, "writable", overtaken)
    second = room.send("2", user=user)
    assert (sent[1].number, second.number) == (1, 2) and (sent[1].order, second.order) == (0, 1)
    room.thread.refresh_from_db()
    assert (room.thread.next_order, room.thread.next_number) == (2, 3)


@pytest.mark.django_db
def test_a_thread_that_is_deleted_after_it_was_read_is_not_found(
    user: AbstractUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = make([], user=user)
    monkeypatch.setattr(messages, "writable", lambda *args, **options: room.thread)
    Thread.objects.filter(pk=room.thread.pk).delete()
    with pytest.raises(NotFound):
        room.send("Hi", user=user)
    assert not Run.objects.exists() and not Message.objects.exists()


# --- a busy thread ------------------------------------------------------------------------------------------------


def claim(run: Run) -> None:
    """Let a worker drive the run, as far as its row is concerned."""
    Run.objects.filter(pk=run.pk).update(
        status=RunStatus.RUNNING, attempt=1, lease_expires_at=timezone.now() + timezone.timedelta(hours=1)
    )


@pytest.mark.django_db
def test_queued_messages_run_one_after_the_other(user: AbstractUser) -> None:
    room = make([Turn(text="one"), Turn(text="two")], user=user)
    first, second = (room.send(text, user=user) for text in "12")
    assert run_until_idle(second).status == RunStatus.PENDING
    assert run_until_idle(first).status == RunStatus.SUCCEEDED
    assert run_until_idle(second).status == RunStatus.SUCCEEDED


@pytest.mark.django_db
def test_the_end_of_a_run_announces_the_next_one(user: AbstractUser) -> None:
    room = make([Turn(text="one")], user=user)
    first, second = (room.send(text, user=user) for text in "12")
    Run.objects.filter(pk=second.pk).update(dispatched_at=None, dispatch_count=0)
    run_until_idle(first)
    assert Run.objects.get(pk=second.pk).dispatch_count == 1


@pytest.mark.django_db
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


@pytest.mark.django_db
def test_over_http_a_busy_thread_is_a_409_problem(user: AbstractUser, client: Client) -> None:
    room = make([], user=user, on_busy="reject")
    client.force_login(user)
    assert post(client, room.thread, agent="test", text="1").status_code == 201
    refused = post(client, room.thread, agent="test", text="2")
    assert (refused.status_code, refused.json()["code"]) == (409, "thread_busy")


@pytest.mark.django_db
def test_a_new_message_interrupts_what_is_not_driven_at_once(user: AbstractUser) -> None:
    room = make([Turn(text="two")], user=user, on_busy="interrupt")
    first = room.send("1", user=user, key="1")
    second = room.send("2", user=user, key="2")
    first.refresh_from_db()
    assert (first.status, first.cancel_reason) == (RunStatus.CANCELED, "A new message has come.")
    assert room.send("2", user=user, key="2") == second
    assert run_until_idle(second).status == RunStatus.SUCCEEDED


@pytest.mark.django_db
def test_a_new_message_asks_the_worker_of_a_driven_run_to_end_it_and_waits_its_turn(user: AbstractUser) -> None:
    room = make([], user=user, on_busy="interrupt")
    first = room.send("1", user=user)
    claim(first)
    second = room.send("2", user=user)
    first.refresh_from_db()
    assert first.status == RunStatus.RUNNING and first.cancel_requested_at is not None
    assert run_until_idle(second).status == RunStatus.PENDING


@pytest.mark.django_db
def test_parallel_runs_do_not_wait_for_each_other(user: AbstractUser) -> None:
    room = make([Turn(text="two")], user=user, on_busy="parallel")
    claim(room.send("1", user=user))
    second = run_until_idle(room.send("2", user=user))
    assert second.status == RunStatus.SUCCEEDED


# --- retry --------------------------------------------------------------------------------------------------------


def end(run: Run, status: RunStatus) -> Run:
    Run.objects.filter(pk=run.pk).update(status=status, finished_at=timezone.now() if status.terminal else None)
    run.refresh_from_db()
    return run


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
