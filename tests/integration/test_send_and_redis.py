"""Sending is one transaction; what goes to Redis goes after it, and a Redis that is away costs no message."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import AbstractUser
from django.db import transaction
from django.test import Client
from rq import Queue

from agentcore import SYSTEM
from agentcore.models import Message, Run, Thread
from agentcore.services import execution
from agentcore.services.sweep import sweep
from agentcore.states import RunStatus
from agentcore.streams import hints
from agentcore.streams.models import Record, Stream
from tests.stack import Stack
from tests.testapp import agents


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The streams that hints were sent for."""
    seen: list[Any] = []
    monkeypatch.setattr(hints, "publish", lambda written: seen.extend(item.stream_id for item in written))
    return seen


@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("dj:TX-8")
def test_a_rolled_back_send_leaves_no_row_no_event_no_job_and_no_hint(
    thread: Thread, queue: Queue, announced: list[Any]
) -> None:
    before = Record.objects.count(), Stream.objects.count()
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        agents.echo.runs.send(thread, "Hi", user=thread.owner)
        raise ZeroDivisionError
    assert not Run.objects.exists() and not Message.objects.exists()
    assert (Record.objects.count(), Stream.objects.count()) == before
    assert queue.job_ids == [] and announced == []
    run = agents.echo.runs.send(thread, "Hi", user=thread.owner)  # and one that is committed leaves all of it
    assert len(queue.job_ids) == 1 and set(announced) == {run.stream_id, thread.stream_id}
    assert [event["seq"] for event in agents.echo.events.read(run, user=SYSTEM).events] == [0]


@pytest.mark.django_db
@pytest.mark.covers("dj:TX-8")
def test_a_send_inside_a_test_case_holds_its_hints_until_the_commit(
    thread: Thread, queue: Queue, announced: list[Any], django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks() as callbacks:
        agents.echo.runs.send(thread, "Hi", user=thread.owner)
    assert len(callbacks) == 2 and queue.job_ids == [] and announced == []  # the job, and the hints for both logs
    for callback in callbacks:
        callback()
    assert len(queue.job_ids) == 1 and len(announced) == 2


@pytest.mark.covers("dj:TX-2", "fault:R2")
def test_with_redis_stopped_a_send_answers_at_once_and_the_row_is_pending(
    outage_stack: Stack, thread: Thread, user: AbstractUser, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    client.force_login(user)
    agents.echo.runs.send(thread, "warm", user=user)  # with a connection in the pool, as in any busy process
    outage_stack.stop_redis()
    began = time.monotonic()
    body = json.dumps({"agent": "echo", "text": "Hi", "key": "k"})
    answer = client.post(f"/agent/threads/{thread.pk}/runs", body, content_type="application/json")
    run = agents.echo.runs.send(thread, "Hello", user=user)
    assert time.monotonic() - began < 2
    assert answer.status_code == 201 and answer.json()["status"] == "pending"
    assert Run.objects.get(pk=run.pk).status == RunStatus.PENDING
    assert [record.levelname for record in caplog.records if record.name == "agentcore.dispatch"] == ["WARNING"] * 2
    sweep()  # neither fails, nor marks as sent what was not
    Run.objects.update(dispatched_at=None)
    assert sweep().hinted == 0 and not Run.objects.exclude(dispatched_at=None).exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("dj:TX-2")
def test_a_redis_that_takes_calls_and_never_answers_costs_a_second(thread: Thread, settings: LazySettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        settings.RQ_QUEUES = {"agentcore": {**settings.RQ_QUEUES["agentcore"], "URL": url}}
        began = time.monotonic()
        run = agents.echo.runs.send(thread, "Hi", user=thread.owner)
        assert 0.4 < time.monotonic() - began < 2
    assert Run.objects.get(pk=run.pk).status == RunStatus.PENDING


@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("dj:TX-2")
@pytest.mark.parametrize(
    "queues", [{}, {"default": {"URL": "redis://127.0.0.1:1/0"}}, None], ids=["empty", "other", "none"]
)
def test_without_a_queue_a_run_stays_pending_and_can_be_driven_here(
    thread: Thread, settings: LazySettings, queues: Any
) -> None:
    settings.RQ_QUEUES = queues
    run = agents.echo.runs.send(thread, "Hi", user=thread.owner)
    Run.objects.update(dispatched_at=None)
    assert sweep().hinted == 0
    assert Run.objects.get(pk=run.pk).status == RunStatus.PENDING
    assert execution.execute(run, user=thread.owner).status == RunStatus.SUCCEEDED


@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("dj:TX-2")
def test_a_hint_that_breaks_does_not_break_the_send(
    thread: Thread, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*args: Any) -> None:
        raise RuntimeError("a defect in a hint")

    monkeypatch.setattr("agentcore.services.dispatch.enqueue", broken)
    monkeypatch.setattr(hints, "publish", broken)
    run = agents.echo.runs.send(thread, "Hi", user=thread.owner)
    assert Run.objects.get(pk=run.pk).status == RunStatus.PENDING
    assert caplog.text.count("a defect in a hint") >= 3
