"""A send is its look at the thread and one statement, which decides from the rows that it has locked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any
from unittest import mock

import psycopg
import pytest
from django.contrib.auth.models import AbstractUser
from django.db import connection, transaction
from django.utils import timezone

from agentcore import SYSTEM
from agentcore.exceptions import NotFound
from agentcore.models import Message, Run, Thread
from agentcore.services import deletion, places
from agentcore.streams import log
from agentcore.streams.exceptions import StreamClosed
from agentcore.streams.models import Record, Stream
from agentcore.values import jsontext
from agentcore.values.events import ThreadCall
from tests.faults import postgres
from tests.integration.room import Room, fresh, make, race, statements
from tests.stack import wait_for

CONTROLS = "".join(map(chr, range(1, 32)))


def while_held(hold: Callable[[], object], *functions: Callable[[], Any], look: Callable[[], Any] = list) -> list[Any]:
    """What each returns or raises that waits for rows which a transaction has changed; `look` is called meanwhile."""
    outcomes: list[Any] = []
    rivals = threading.Thread(target=lambda: outcomes.extend(race(*functions)), daemon=True)
    with transaction.atomic():
        hold()
        rivals.start()
        wait_for(lambda: postgres.waiting_for_a_lock() == len(functions), 20, "all of them to wait")
        look()
        with connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            (then,) = cursor.fetchone()
    rivals.join(60)
    assert all(found.created_at > then for found in outcomes if isinstance(found, Run)), "a time from before the lock"
    return outcomes


def rows() -> list[int]:
    return [model.objects.count() for model in (Run, Message, Stream, Record)]


def allocated(thread: Thread) -> tuple[int, int]:
    return fresh(thread).next_order, fresh(thread).next_number


def told(thread: Thread) -> list[dict[str, Any]]:
    return [json.loads(entry.data) for entry in log.read(thread.stream_id)]


# --- how many statements --------------------------------------------------------------------------------------------


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "write",
    [
        lambda room: room.send("Hi", key="k"),
        lambda room: room.agent.runs.start(room.thread, user=SYSTEM),
        lambda room: room.agent.messages.save(room.thread, "Hi", user=SYSTEM),
    ],
    ids=["send", "start", "save"],
)
@pytest.mark.parametrize("on_busy", ["queue", "parallel"])
def test_what_is_added_to_a_thread_is_a_look_and_one_statement_and_no_transaction(on_busy: str, write: Any) -> None:
    room = make([], on_busy=on_busy)
    begun = mock.Mock(wraps=connection.set_autocommit)
    with mock.patch.object(connection, "set_autocommit", begun), statements() as seen:
        write(room)
    assert len(seen) == 2 and seen[0].startswith("SELECT") and not begun.called


@pytest.mark.postgres
@pytest.mark.django_db
def test_inside_a_transaction_it_is_the_same_statement_in_a_savepoint() -> None:
    room = make([])
    with statements() as seen:
        room.send("Hi")
    assert [text.split()[0] for text in seen] == ["SELECT", "SAVEPOINT", "WITH", "RELEASE"]


# --- what is stored ---------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("said", [CONTROLS, "\x01\x02\x03\x04", "\\u0001 \x00 \ud800", "\u2028 ä 😀"], ids=ascii)
def test_whatever_somebody_says_is_stored_and_announced_as_it_was_said(
    said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    announced: dict[Any, list[bytes]] = {}
    publish = lambda written: announced.update((item.stream_id, item.payloads) for item in written)  # noqa: E731
    room = make([])
    monkeypatch.setattr("agentcore.streams.hints.publish", publish)
    run = room.send(said, key=said, metadata={said: said})
    message, clean = Message.objects.get(), jsontext.clean_text(said)
    assert (message.text, message.key, fresh(run).key, fresh(run).metadata) == (clean, clean, clean, {clean: clean})
    spoken, new = told(room.thread)
    assert spoken["message"] == message.to_event() and (new["run"], new["number"]) == (str(run.pk), 1)
    assert {stream_id: [entry.data for entry in log.read(stream_id)] for stream_id in announced} == announced
    assert announced.keys() == {room.thread.stream_id, run.stream_id}


@pytest.mark.django_db
def test_what_it_returns_is_what_is_stored(user: AbstractUser) -> None:
    room = make([], user=user)
    run = room.send("Hi", user=user, key="k", metadata={"a": [1, None]})
    stored = Run.objects.select_related("prompt", "stream", "thread").get(pk=run.pk)
    for mine, row in ((run, stored), (run.prompt, stored.prompt), (run.stream, stored.stream)):
        for field in row._meta.concrete_fields:
            assert getattr(mine, field.attname) == getattr(row, field.attname), field.name
    assert (run.thread.next_order, run.thread.next_number) == (stored.thread.next_order, stored.thread.next_number)
    assert Record.objects.get(stream=run.stream).append_seq == 0
    assert {run.created_at, run.dispatched_at, run.stream.created_at} == {run.prompt.created_at}


# --- races ------------------------------------------------------------------------------------------------------------


def two_sends(room: Room) -> list[Callable[[], Run]]:
    return [lambda text=text: room.agent.runs.send(room.thread.pk, text, user=SYSTEM, key=text) for text in "ab"]


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_two_senders_who_have_read_the_same_places_get_one_after_the_other() -> None:
    room = make([])
    found = while_held(lambda: places.lock(room.thread), *two_sends(room))
    assert sorted((run.order, run.number) for run in found) == [(0, 1), (1, 2)]
    assert [event["seq"] for event in told(room.thread)] == [0, 1, 2, 3]
    assert [run.prompt.order for run in Run.objects.order_by("number")] == [0, 1]
    assert allocated(room.thread) == (2, 3)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_positions_follow_those_that_were_allocated_while_it_waited() -> None:
    room = make([])
    said = ThreadCall(run="", call_id="", name="", status="", by="")
    while_held(lambda: log.append(room.thread.stream_id, [said.encode]), two_sends(room)[0])
    assert [(event["seq"], event["type"]) for event in told(room.thread)] == [
        (0, "thread.call"),
        (1, "thread.message"),
        (2, "thread.run"),
    ]


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("hides", [False, True], ids=["removed", "hidden"])
def test_a_send_that_waits_for_a_deletion_finds_no_thread(hides: bool) -> None:
    room = make([])
    remove = lambda: deletion.remove(room.thread.pk)  # noqa: E731
    hide = lambda: Thread.objects.filter(pk=room.thread.pk).update(removal_due_at=timezone.now())  # noqa: E731
    (outcome,) = while_held(hide if hides else remove, two_sends(room)[0])
    assert isinstance(outcome, NotFound) and not Run.objects.exists() and not Message.objects.exists()
    assert not Record.objects.exists() and not Stream.objects.filter(name__startswith="run:").exists()


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_a_send_that_waits_for_its_threads_log_to_be_closed_writes_nothing() -> None:
    room = make([])
    before, closed = [rows(), allocated(room.thread)], Stream.objects.filter(pk=room.thread.stream_id)
    (outcome,) = while_held(lambda: closed.update(closed_at=timezone.now()), two_sends(room)[0])
    assert isinstance(outcome, StreamClosed) and [rows(), allocated(room.thread)] == before


@pytest.mark.django_db
@pytest.mark.parametrize("on_busy", ["queue", "reject"])
def test_a_closed_log_takes_nothing_and_leaves_the_callers_transaction_as_it_was(on_busy: str) -> None:
    room = make([], on_busy=on_busy)
    Stream.objects.filter(pk=room.thread.stream_id).update(closed_at=timezone.now())
    before = [rows(), allocated(room.thread)]
    with pytest.raises(StreamClosed):
        room.send("Hi")
    assert [rows(), allocated(room.thread)] == before


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_of_two_senders_to_an_idle_thread_that_rejects_one_is_refused() -> None:
    room = make([], on_busy="reject")
    found = while_held(lambda: places.lock(room.thread), *two_sends(room))
    assert sorted(type(outcome).__name__ for outcome in found) == ["Run", "ThreadBusy"]
    assert Run.objects.count() == Message.objects.count() == 1


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("on_busy", ["queue", "reject", "interrupt"])
def test_the_same_key_twice_at_once_is_one_run(on_busy: str) -> None:
    room = make([], on_busy=on_busy)
    first, second = while_held(lambda: places.lock(room.thread), *[two_sends(room)[0]] * 2)
    assert first == second and Run.objects.count() == Message.objects.count() == 1
    assert allocated(room.thread) == (1, 2) and len(told(room.thread)) == 2


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_a_send_locks_its_thread_before_its_log() -> None:
    room, locks = make([]), "SELECT 1 FROM {} WHERE id = %s FOR NO KEY UPDATE NOWAIT"

    def others_have(table: str, key: Any) -> bool:
        with postgres.session() as other:
            try:
                other.execute(locks.format(table), [key])
            except psycopg.errors.LockNotAvailable:
                return True
        return False

    found: list[bool] = []
    log_row, (first, second) = Stream.objects.filter(pk=room.thread.stream_id), two_sends(room)
    thread_is_locked = lambda: found.append(others_have("agentcore_thread", room.thread.pk))  # noqa: E731
    log_is_locked = lambda: found.append(others_have("agentcore_streams_stream", room.thread.stream_id))  # noqa: E731
    while_held(lambda: log_row.update(content_type="x"), first, look=thread_is_locked)
    while_held(lambda: places.lock(room.thread), second, look=log_is_locked)
    assert found == [True, False]
