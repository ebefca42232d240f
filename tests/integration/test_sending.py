"""A send makes one message and one run for each key, however many send at once; what is no message makes neither."""

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

from agentcore import SYSTEM, Agent
from agentcore.exceptions import Invalid, KeyConflict, NotFound, UserError
from agentcore.models import Message, Run, Thread
from agentcore.services import messages
from agentcore.states import RunStatus
from agentcore.streams import log
from agentcore.streams.models import Record, Stream
from agentcore.testing import Turn, run_until_idle
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
