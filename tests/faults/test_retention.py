"""Retention: what is old goes whole, in little bites; what lives, or is owed to a person, stays."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import AbstractUser
from django.core.management import CommandError, call_command
from django.db import connection, models
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from agentcore.jobs.single import execute_run
from agentcore.models import Approval, Message, Run, Step, Thread, ToolCall
from agentcore.services import retention
from agentcore.streams.models import Record, Stream
from supportdemo.cases.models import Case
from tests.faults.runs import send
from tests.integration.demo import open_case
from tests.testapp import agents

pytestmark = pytest.mark.django_db(transaction=True)

YEAR = timedelta(days=365)
EVERYTHING = (Thread, Run, Message, Step, ToolCall, Approval, Stream, Record)


def age(thread: Any, days: int = 400) -> None:
    Thread.objects.filter(pk=thread.pk).update(updated_at=timezone.now() - timedelta(days=days))


def done(make_thread: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Run:
    """A run that has ended, with a tool call."""
    monkeypatch.setenv("WORLD_LOG", str(tmp_path / "world"))
    run = send(agents.careful_bee, make_thread("careful_bee"))
    assert execute_run(str(run.pk)) == "ended"
    return run


@pytest.mark.covers("fault:D15")
def test_an_old_thread_goes_with_all_that_is_in_it_and_nothing_else_does(
    make_thread: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    young = done(make_thread, monkeypatch, tmp_path)
    rows = [model.objects.count() for model in EVERYTHING]
    old = done(make_thread, monkeypatch, tmp_path)
    age(old.thread)
    age(young.thread, days=300)
    said = StringIO()
    call_command("agentcore_prune", "--days", "365", "--dry-run", stdout=said)
    assert "1 threads would be deleted" in said.getvalue() and Thread.objects.count() == 2
    call_command("agentcore_prune", "--days", "365", stdout=said)
    assert "1 threads deleted; 0 kept" in said.getvalue()
    assert [model.objects.count() for model in EVERYTHING] == rows
    assert Run.objects.get().pk == young.pk


@pytest.mark.covers("fault:D15")
@pytest.mark.parametrize("status", ["pending", "waiting", "running"])
def test_a_thread_in_which_a_run_lives_stays(thread: Thread, status: str) -> None:
    run = send(agents.echo, thread)
    lease = timezone.now() if status == "running" else None
    Run.objects.filter(pk=run.pk).update(status=status, lease_expires_at=lease)
    age(thread)
    assert retention.prune(YEAR) == retention.Pruned()


def test_a_thread_with_a_call_that_nobody_has_answered_stays(
    make_thread: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    run = done(make_thread, monkeypatch, tmp_path)
    ToolCall.objects.filter(run=run).update(status="effect_unverified", finished_at=None)
    age(run.thread)
    assert retention.prune(YEAR) == retention.Pruned()


def test_a_thread_that_the_project_needs_stays_whole(
    user: AbstractUser, thread: Thread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Case._meta.get_field("thread").remote_field, "on_delete", models.PROTECT)
    case = open_case(user)
    for one in (case.thread, thread):
        age(one)
    assert retention.prune(YEAR) == retention.Pruned(threads=1, kept=1)
    assert Thread.objects.get().pk == case.thread_id and Stream.objects.get().pk == case.thread.stream_id


@pytest.mark.covers("fault:D15")
def test_a_long_log_is_deleted_by_statements_and_not_row_by_row(thread: Thread) -> None:
    run = send(agents.echo, thread)
    execute_run(str(run.pk))
    Record.objects.bulk_create(
        [
            Record(stream=run.stream, seq=seq, append_seq=seq, data=b"{}", created_at=run.created_at)
            for seq in range(100, 5000)
        ]
    )
    age(thread)
    with CaptureQueriesContext(connection) as queries:
        assert retention.prune(YEAR).threads == 1
    assert not Record.objects.exists() and len(queries) < 60


def test_days_are_at_least_one() -> None:
    with pytest.raises(CommandError, match="at least 1"):
        call_command("agentcore_prune", "--days", "0")
