"""What is deleted is gone, logs and all; a thread in which a worker still writes goes as soon as that has ended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractUser
from django.db import connection, models
from django.db.models import ProtectedError
from django.test import Client
from django.urls import reverse

from agentcore import SYSTEM
from agentcore.access import visible_threads
from agentcore.exceptions import Conflict, NotAllowed, NotFound
from agentcore.models import Approval, Message, Run, RunLink, Step, Thread, ToolCall
from agentcore.services import deletion, messages, retention, sweep
from agentcore.streams.models import Record, Stream
from agentcore.testing import run_until_idle
from supportdemo.cases.models import Case
from tests.faults.runs import LONG, send, status
from tests.integration.demo import open_case
from tests.integration.office import staff
from tests.stack import Stack, wait_for
from tests.testapp import agents

EVERYTHING = (Thread, Run, Message, Step, ToolCall, Approval, RunLink, Stream, Record)

pytestmark = pytest.mark.django_db(transaction=True)


def left() -> dict[str, int]:
    """How many rows there are of each kind, but for the kinds of which there are none."""
    counts = {model.__name__: model._base_manager.count() for model in EVERYTHING}
    return {name: count for name, count in counts.items() if count}


@pytest.fixture(autouse=True)
def world_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the tools that run in this process say that they ran."""
    monkeypatch.setenv("WORLD_LOG", str(tmp_path / "world"))


@pytest.fixture
def ended(make_thread: Callable[..., Any]) -> Run:
    """A run that has ended, after a tool call."""
    run: Run = run_until_idle(send(agents.careful_bee, make_thread("careful_bee")))
    assert run.status == "succeeded" and left().keys() >= {"Thread", "Run", "ToolCall", "Stream", "Record"}
    return run


@pytest.fixture
def waiting(make_thread: Callable[..., Any]) -> Run:
    """A run that waits for an approval."""
    run: Run = run_until_idle(send(agents.gated, make_thread("gated")))
    assert run.status == "waiting"
    return run


@pytest.mark.covers("fc:D1")
@pytest.mark.parametrize(
    "delete",
    [
        pytest.param(lambda thread: agents.echo.threads.delete(thread, user=thread.owner), id="by the service"),
        pytest.param(lambda thread: thread.delete(), id="by the model"),
        pytest.param(lambda thread: Thread.objects.filter(pk=thread.pk).delete(), id="by a queryset"),
        pytest.param(lambda thread: thread.owner.delete(), id="with its owner"),
        pytest.param(
            lambda thread: get_user_model().objects.filter(pk=thread.owner_id).delete(), id="with its owner's rows"
        ),
    ],
)
def test_nothing_is_left_of_a_deleted_thread(
    ended: Run, make_thread: Callable[..., Any], other_user: AbstractUser, delete: Callable[[Thread], Any]
) -> None:
    other = run_until_idle(send(agents.echo, make_thread(owner=other_user)))
    messages.save(ended.thread, "One more thing.", user=ended.user)
    delete(Thread.objects.get(pk=ended.thread_id))
    assert [run.pk for run in Run.objects.all()] == [other.pk]
    assert left() == {"Thread": 1, "Run": 1, "Message": 2, "Step": 1, "Stream": 2, "Record": Record.objects.count()}
    assert set(Record.objects.values_list("stream", flat=True)) == {other.stream_id, other.thread.stream_id}


@pytest.mark.covers("fc:D1")
def test_a_deleted_run_takes_its_log_along(ended: Run) -> None:
    ended.delete()
    assert [stream.pk for stream in Stream.objects.all()] == [ended.thread.stream_id]


@pytest.mark.covers("fc:D1")
@pytest.mark.parametrize("owner", [True, False])
def test_what_waits_for_a_person_is_canceled_and_goes(waiting: Run, owner: bool) -> None:
    if owner:
        waiting.user.delete()
    else:
        agents.gated.threads.delete(waiting.thread, user=waiting.user)
    assert left() == {}


@pytest.mark.covers("fc:D1")
def test_a_thread_in_which_a_run_lives_is_not_deleted_behind_its_back(waiting: Run) -> None:
    before = left()
    with pytest.raises(ProtectedError, match=r"Cancel it first, or call agent\.threads\.delete"):
        waiting.thread.delete()
    assert left() == before and status(waiting) == "waiting"


@pytest.mark.covers("fc:D1")
@pytest.mark.parametrize("owner", [True, False])
def test_a_run_that_a_worker_drives_is_canceled_first(
    stack: Stack, make_thread: Callable[..., Any], owner: bool
) -> None:
    run = send(agents.endless, make_thread("endless"))
    stack.worker()
    wait_for(lambda: status(run) == "running", LONG, "the run to be driven")
    person = run.user
    if owner:
        person.delete()
    else:
        agents.endless.threads.delete(run.thread_id, user=person)
    for reader in (person, SYSTEM) if not owner else (SYSTEM,):
        with pytest.raises(NotFound):
            agents.endless.threads.get(run.thread_id, user=reader)
        with pytest.raises(NotFound):
            agents.endless.runs.send(run.thread_id, "more", user=reader)
    wait_for(lambda: left() == {}, LONG, "the worker's own sweep to remove the rest")


@pytest.mark.covers("fc:D1")
def test_who_deletes_and_who_does_not(ended: Run, other_user: AbstractUser) -> None:
    reader = staff("olga", "view_any_thread")
    with pytest.raises(NotFound):
        agents.echo.threads.delete(ended.thread, user=other_user)
    with pytest.raises(NotAllowed):
        agents.echo.threads.delete(ended.thread, user=reader)
    remover = staff("rita", "view_any_thread", "delete_thread")
    agents.echo.threads.delete(ended.thread, user=remover)
    assert left() == {}
    with pytest.raises(NotFound):
        agents.echo.threads.delete(ended.thread_id, user=SYSTEM)


@pytest.mark.covers("fc:D1")
def test_a_deciders_name_outlives_the_account(waiting: Run, operator: AbstractUser) -> None:
    approval = Approval.objects.get()
    agents.gated.tools.deny(approval, user=operator, digest=approval.digest, reason="no")
    operator.delete()
    approval.refresh_from_db()
    assert (approval.decided_by, approval.decided_by_name) == (None, "olga")
    assert Thread.objects.filter(pk=waiting.thread_id, removal_due_at=None).exists()


@pytest.mark.covers("fc:D1")
def test_the_sweep_removes_logs_that_earlier_releases_left(ended: Run) -> None:
    kept = {ended.stream_id, ended.thread.stream_id}
    left_over = [Stream.objects.create(name=f"{kind}:{number}") for kind in ("run", "thread") for number in range(2)]
    Record.objects.bulk_create(
        [Record(stream=one, seq=0, append_seq=0, data=b"{}", created_at=one.created_at) for one in left_over]
    )
    theirs = Stream.objects.create(name="orders")  # a stream that the project made for itself
    assert sweep.sweep().removed == len(left_over)
    assert set(Stream.objects.values_list("pk", flat=True)) == {*kept, theirs.pk}
    assert set(Record.objects.values_list("stream", flat=True)) == kept


@pytest.mark.covers("fc:D1")
def test_many_logs_are_looked_at_a_few_at_a_time(ended: Run) -> None:
    for number in range(5):
        Stream.objects.create(name=f"run:{number}")
    logs = deletion.LogSweep()
    found = [logs.look(3) for _ in range(3)]
    assert sum(found) == 5 and max(found) <= 3
    Stream.objects.create(name="run:6")
    assert sum(logs.look(3) for _ in range(2)) == 1  # from the beginning again


@pytest.mark.covers("fc:D1")
def test_a_thread_that_the_project_needs_is_not_deleted(user: AbstractUser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Case._meta.get_field("thread").remote_field, "on_delete", models.PROTECT)
    case = open_case(user)
    before = left()
    with pytest.raises(Conflict, match=r"still need this thread.*Case"):
        agents.echo.threads.delete(case.thread, user=user)
    assert left() == before and visible_threads(user).count() == 1


@pytest.mark.covers("fc:D1")
def test_a_protected_thread_of_a_deleted_owner_is_hidden_said_once_and_tried_again_later(
    user: AbstractUser, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    case = open_case(user)
    monkeypatch.setattr(Case._meta.get_field("thread").remote_field, "on_delete", models.PROTECT)
    monkeypatch.setattr(Case._meta.get_field("customer").remote_field, "on_delete", models.DO_NOTHING)
    Case.objects.update(customer=staff("somebody"))
    user.delete()
    sweep.sweep()
    said = [record for record in caplog.records if record.getMessage().startswith("a deleted thread stays hidden")]
    assert len(said) == 1 and "Case" in said[0].getMessage()
    assert not visible_threads(SYSTEM).exists()
    Case.objects.all().delete()
    Thread.objects.update(removal_due_at=case.created_at)
    sweep.sweep()
    assert left() == {}


@pytest.mark.covers("fc:D1")
def test_a_deleted_account_waits_for_a_few_threads_at_most(user: AbstractUser, make_thread: Callable[..., Any]) -> None:
    for _ in range(25):
        make_thread()
    user.delete()
    assert 0 < Thread.objects.count() < 25 and not visible_threads(SYSTEM).exists()
    sweep.sweep()
    assert left() == {}


@pytest.mark.covers("fc:D1")
def test_many_accounts_deleted_together_remove_as_many_threads_at_once_as_one(
    make_thread: Callable[..., Any],
) -> None:
    people = [get_user_model().objects.create_user(f"user{number}") for number in range(4)]
    for person in people:
        for _ in range(10):
            make_thread(owner=person)
    get_user_model().objects.filter(pk__in=[person.pk for person in people]).delete()
    assert Thread.objects.count() == 20 and not visible_threads(SYSTEM).exists()


@pytest.mark.covers("fc:D1")
@pytest.mark.postgres
def test_a_thread_that_somebody_holds_is_left_to_the_sweep(thread: Thread, caplog: pytest.LogCaptureFixture) -> None:
    Thread.objects.update(removal_due_at=thread.created_at)
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("SELECT 1 FROM agentcore_thread WHERE id = %s FOR UPDATE", [thread.pk])
            with caplog.at_level("INFO", "agentcore.deletion"):
                deletion.remove_at_once(1)
            cursor.execute("ROLLBACK")
    finally:
        other.close()
    assert "the sweep removes it" in caplog.text and Thread.objects.exists()
    assert sweep.sweep().removed == 1


@pytest.mark.covers("fc:D1")
def test_the_admin_deletes_a_customer_with_threads(user: AbstractUser, ended: Run) -> None:
    root = get_user_model().objects.create_superuser("root", "root@example.com", "pw")
    client = Client()
    client.force_login(root)
    address = reverse("admin:auth_user_delete", args=[user.pk])
    assert "cannot" not in client.get(address).content.decode().lower()
    assert visible_threads(SYSTEM).count() == 1  # looking at the question deletes nothing
    client.post(address, {"post": "yes"})
    assert left() == {}


def test_an_old_thread_that_is_pruned_takes_its_logs_along(ended: Run) -> None:
    Thread.objects.update(updated_at="2020-01-01T00:00:00Z")
    assert retention.prune(retention.timedelta(days=1)).threads == 1
    assert left() == {}
