"""Sending: once for each key, in turn where a thread is busy, and again where a run may be retried."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.models import AbstractUser
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from agentcore import SYSTEM, Agent, tool
from agentcore.declaration import registry
from agentcore.exceptions import Conflict, Invalid, KeyConflict, NotFound, RunActive, ThreadBusy, UserError
from agentcore.models import Message, Run, Thread, ToolCall
from agentcore.services import messages
from agentcore.states import RunStatus, ToolCallStatus
from agentcore.streams import log
from agentcore.streams.models import Record, Stream
from agentcore.testing import ScriptedModel, Turn, run_until_idle

MANY = 50


@tool(effect="pure")
def look() -> str:
    """Look."""
    return "seen"


@pytest.fixture
def make(user: AbstractUser) -> Iterator[Callable[..., tuple[Agent, Thread]]]:
    """A function that declares an agent and opens a thread with it."""

    def make(*turns: Turn, name: str = "test", **options: Any) -> tuple[Agent, Thread]:
        agent = Agent(name=name, model=ScriptedModel(turns), tools=[look], **options)
        return agent, agent.threads.create(user=user)

    with registry.isolated():
        yield make


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
def test_fifty_identical_sends_at_once_make_one_message_and_one_run(
    make: Callable[..., tuple[Agent, Thread]], user: AbstractUser, on_busy: str
) -> None:
    agent, thread = make(on_busy=on_busy)
    found = at_once(MANY, lambda number: agent.runs.send(thread.pk, "Where is it?", user=user, key="k").pk)
    (run,) = Run.objects.all()
    assert set(found) == {run.pk} and (run.status, run.number) == (RunStatus.PENDING, 1)
    assert [message.text for message in Message.objects.all()] == ["Where is it?"]
    assert [event["type"] for event in agent.events.read(run, user=SYSTEM).events] == ["run.created"]


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
def test_different_messages_at_once_are_all_kept_each_in_its_own_turn(
    make: Callable[..., tuple[Agent, Thread]], user: AbstractUser
) -> None:
    agent, thread = make()
    at_once(8, lambda number: agent.runs.send(thread.pk, f"{number}", user=user, key=f"{number}"))
    assert sorted(Message.objects.values_list("order", "step_order")) == [(turn, 0) for turn in range(8)]
    assert sorted(Run.objects.values_list("number", flat=True)) == [*range(1, 9)]
    seqs = [json.loads(entry.data)["seq"] for entry in log.read(thread.stream_id)]
    assert seqs == [*range(len(seqs))]


@pytest.mark.django_db
@pytest.mark.covers("api:I1", "fault:A1")
@pytest.mark.parametrize(
    "other",
    [{"content": "Another text"}, {"metadata": {"a": 2}}, {"content": [{"type": "text", "text": "Hi"}] * 2}],
    ids=["text", "metadata", "parts"],
)
def test_the_same_key_with_another_input_is_a_conflict(
    make: Callable[..., tuple[Agent, Thread]], user: AbstractUser, other: dict[str, Any]
) -> None:
    agent, thread = make()
    first: dict[str, Any] = {"content": "Hi", "user": user, "key": "k", "metadata": {"a": 1}}
    run = agent.runs.send(thread, **first)
    with pytest.raises(KeyConflict):
        agent.runs.send(thread, **{**first, **other})
    assert agent.runs.send(thread, **first) == run
    assert Run.objects.count() == Message.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.covers("api:I1")
def test_a_key_counts_in_its_thread_and_for_its_agent_also_after_the_run(
    make: Callable[..., tuple[Agent, Thread]], user: AbstractUser
) -> None:
    agent, thread = make(Turn(text="ok"))
    other, elsewhere = make(name="other")
    run = run_until_idle(agent.runs.send(thread, "Hi", user=user, key="k"))
    assert agent.runs.send(thread, "Hi", user=user, key="k") == run
    assert len({run.pk, other.runs.send(thread, "Hi", user=user, key="k").pk,
                agent.runs.send(elsewhere, "Hi", user=user, key="k").pk}) == 3  # fmt: skip
    unkeyed = {agent.runs.send(thread, "Hi", user=user).pk for _ in range(2)}
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
    make: Callable[..., tuple[Agent, Thread]], user: AbstractUser, content: Any, options: dict[str, Any]
) -> None:
    agent, thread = make()
    with pytest.raises(Invalid):
        agent.runs.send(thread, content, user=user, **options)
    assert not Run.objects.exists() and not Message.objects.exists()


@pytest.mark.once
@pytest.mark.django_db
@pytest.mark.parametrize("on_busy", ["queue", "parallel"])
def test_a_send_reads_once_and_writes_with_one_statement_a_table(
    make: Callable[..., tuple[Agent, Thread]], user: AbstractUser, on_busy: str
) -> None:
    agent, thread = make(on_busy=on_busy)
    with CaptureQueriesContext(connection) as queries:
        agent.runs.send(thread.pk, "Hi", user=user, key="k")
    # Of what goes round Django's cursor, as inserts do on PostgreSQL, nothing is seen.
    said = [query["sql"].split()[0] for query in queries if "SAVEPOINT" not in query["sql"]]
    assert said.count("SELECT") == 1 and len(said) <= 7


@pytest.mark.django_db
def test_nobody_is_not_a_sender(make: Callable[..., tuple[Agent, Thread]]) -> None:
    agent, thread = make()
    with pytest.raises(UserError, match="SYSTEM"):
        agent.runs.send(thread, "Hi", user=None)


@pytest.mark.django_db
@pytest.mark.covers("api:I1")
@pytest.mark.parametrize("on_busy", ["queue", "reject", "interrupt", "parallel"])
def test_a_repeated_request_changes_nothing(
    make: Callable[..., tuple[Agent, Thread]], user: AbstractUser, on_busy: str
) -> None:
    agent, thread = make(on_busy=on_busy)
    first = agent.runs.send(thread, "1", user=user, key="1")
    agent.runs.cancel(first, user=user)
    agent.runs.send(thread, "2", user=user, key="2")
    before = [*Thread.objects.values(), *Run.objects.values(), *Stream.objects.values(), *Record.objects.values()]
    assert agent.runs.send(thread, "1", user=user, key="1").pk == first.pk
    assert [
        *Thread.objects.values(),
        *Run.objects.values(),
        *Stream.objects.values(),
        *Record.objects.values(),
    ] == before


@pytest.mark.django_db
def test_who_read_the_thread_before_somebody_elses_send_gets_the_next_places(
    make: Callable[..., tuple[Agent, Thread]], user: AbstractUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, thread = make()
    really, sent = messages.writable, []

    def overtaken(*args: Any, **options: Any) -> Thread:
        found = really(*args, **options)
        if not sent:
            sent.append(True)
            sent.append(agent.runs.send(thread, "1", user=user))
        return found

    monkeypatch.setattr(messages, "writable", overtaken)
    second = agent.runs.send(thread, "2", user=user)
    assert (sent[1].number, second.number) == (1, 2) and (sent[1].order, second.order) == (0, 1)
    thread.refresh_from_db()
    assert (thread.next_order, thread.next_number) == (2, 3)


@pytest.mark.django_db
def test_a_thread_that_is_deleted_after_it_was_read_is_not_found(
    make: Callable[..., tuple[Agent, Thread]], user: AbstractUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, thread = make()
    monkeypatch.setattr(messages, "writable", lambda *args, **options: thread)
    Thread.objects.filter(pk=thread.pk).delete()
    with pytest.raises(NotFound):
        agent.runs.send(thread, "Hi", user=user)
    assert not Run.objects.exists() and not Message.objects.exists()


# --- a busy thread ------------------------------------------------------------------------------------------------


def claim(run: Run) -> None:
    """Let a worker drive the run, as far as its row is concerned."""
    Run.objects.filter(pk=run.pk).update(
        status=RunStatus.RUNNING, attempt=1, lease_expires_at=timezone.now() + timezone.timedelta(hours=1)
    )


@pytest.mark.django_db
def test_queued_messages_run_one_after_the_other(make: Callable[..., tuple[Agent, Thread]], user: AbstractUser) -> None:
    agent, thread = make(Turn(text="one"), Turn(text="two"))
    first, second = (agent.runs.send(thread, text, user=user) for text in "12")
    assert run_until_idle(second).status == RunStatus.PENDING
    assert run_until_idle(first).status == RunStatus.SUCCEEDED
    assert run_until_idle(second).status == RunStatus.SUCCEEDED


@pytest.mark.django_db
def test_the_end_of_a_run_announces_the_next_one(make: Callable[..., tuple[Agent, Thread]], user: AbstractUser) -> None:
    agent, thread = make(Turn(text="one"))
    first, second = (agent.runs.send(thread, text, user=user) for text in "12")
    Run.objects.filter(pk=second.pk).update(dispatched_at=None, dispatch_count=0)
    run_until_idle(first)
    assert Run.objects.get(pk=second.pk).dispatch_count == 1


@pytest.mark.django_db
@pytest.mark.parametrize("driven", [False, True], ids=["pending", "running"])
def test_a_busy_thread_rejects(make: Callable[..., tuple[Agent, Thread]], user: AbstractUser, driven: bool) -> None:
    agent, thread = make(Turn(text="one"), Turn(text="two"), on_busy="reject")
    first = agent.runs.send(thread, "1", user=user, key="1")
    if driven:
        claim(first)
    with pytest.raises(ThreadBusy):
        agent.runs.send(thread, "2", user=user, key="2")
    assert Message.objects.count() == 1
    assert agent.runs.send(thread, "1", user=user, key="1") == first  # a repeated request is answered, not refused
    agent.runs.cancel(first, user=SYSTEM)
    if driven:
        Run.objects.filter(pk=first.pk).update(status="canceled", finished_at=timezone.now(), lease_expires_at=None)
    assert agent.runs.send(thread, "2", user=user, key="2").number == 2


@pytest.mark.django_db
def test_over_http_a_busy_thread_is_a_409_problem(
    make: Callable[..., tuple[Agent, Thread]], user: AbstractUser, client: Client
) -> None:
    _, thread = make(on_busy="reject")
    client.force_login(user)
    assert post(client, thread, agent="test", text="1").status_code == 201
    refused = post(client, thread, agent="test", text="2")
    assert (refused.status_code, refused.json()["code"]) == (409, "thread_busy")


@pytest.mark.django_db
def test_a_new_message_interrupts_what_is_not_driven_at_once(
    make: Callable[..., tuple[Agent, Thread]], user: AbstractUser
) -> None:
    agent, thread = make(Turn(text="two"), on_busy="interrupt")
    first = agent.runs.send(thread, "1", user=user, key="1")
    second = agent.runs.send(thread, "2", user=user, key="2")
    first.refresh_from_db()
    assert (first.status, first.cancel_reason) == (RunStatus.CANCELED, "A new message has come.")
    assert agent.runs.send(thread, "2", user=user, key="2") == second
    assert run_until_idle(second).status == RunStatus.SUCCEEDED


@pytest.mark.django_db
def test_a_new_message_asks_the_worker_of_a_driven_run_to_end_it_and_waits_its_turn(
    make: Callable[..., tuple[Agent, Thread]], user: AbstractUser
) -> None:
    agent, thread = make(on_busy="interrupt")
    first = agent.runs.send(thread, "1", user=user)
    claim(first)
    second = agent.runs.send(thread, "2", user=user)
    first.refresh_from_db()
    assert first.status == RunStatus.RUNNING and first.cancel_requested_at is not None
    assert run_until_idle(second).status == RunStatus.PENDING


@pytest.mark.django_db
def test_parallel_runs_do_not_wait_for_each_other(
    make: Callable[..., tuple[Agent, Thread]], user: AbstractUser
) -> None:
    agent, thread = make(Turn(text="two"), on_busy="parallel")
    claim(agent.runs.send(thread, "1", user=user))
    second = run_until_idle(agent.runs.send(thread, "2", user=user))
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
    make: Callable[..., tuple[Agent, Thread]], user: AbstractUser, status: RunStatus, refusal: type[Exception]
) -> None:
    agent, thread = make()
    run = end(agent.runs.send(thread, "Hi", user=user), status)
    with pytest.raises(refusal):
        agent.runs.retry(run, user=user)
    assert Run.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("status", [RunStatus.FAILED, RunStatus.CANCELED])
def test_a_run_is_not_retried_while_a_call_of_it_may_have_happened(
    make: Callable[..., tuple[Agent, Thread]], user: AbstractUser, status: RunStatus
) -> None:
    agent, thread = make(Turn(calls=[("look", {})]), Turn(text="ok"), Turn(text="again"))
    run = end(run_until_idle(agent.runs.send(thread, "Hi", user=user)), status)
    ToolCall.objects.update(status=ToolCallStatus.EFFECT_UNVERIFIED, finished_at=None)
    with pytest.raises(Conflict, match="may have taken effect"):
        agent.runs.retry(run, user=user)
    ToolCall.objects.update(status=ToolCallStatus.FAILED, finished_at=timezone.now())
    assert run_until_idle(agent.runs.retry(run, user=user)).status == RunStatus.SUCCEEDED


@pytest.mark.django_db
def test_a_stranger_cannot_retry_what_is_not_there_for_them(
    make: Callable[..., tuple[Agent, Thread]], user: AbstractUser, other_user: AbstractUser
) -> None:
    agent, thread = make()
    run = end(agent.runs.send(thread, "Hi", user=user), RunStatus.FAILED)
    with pytest.raises(NotFound):
        agent.runs.retry(run, user=other_user)


@pytest.mark.django_db
def test_asking_again_for_a_retry_returns_the_one_that_lives(
    make: Callable[..., tuple[Agent, Thread]], user: AbstractUser
) -> None:
    agent, thread = make(Turn(text="ok"), Turn(text="ok"))
    failed = end(agent.runs.send(thread, "Hi", user=user), RunStatus.FAILED)
    first = agent.runs.retry(failed, user=user)
    assert agent.runs.retry(failed, user=user).pk == first.pk
    end(first, RunStatus.FAILED)
    assert agent.runs.retry(failed, user=user).pk != first.pk
