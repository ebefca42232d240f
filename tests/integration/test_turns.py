"""A page of a conversation: its messages, with the runs of their turns and the keys they were sent with."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from agentcore import SYSTEM, tool
from agentcore.access import OwnerPolicy
from agentcore.exceptions import ModelError
from agentcore.models import Message, Run, ToolCall
from agentcore.services import runs, sending, turns
from agentcore.streams import log as streams
from agentcore.testing import Turn, run_until_idle
from agentcore.values import events
from tests.integration.api_room import Caller, ok, pay
from tests.integration.room import Room, log, make

pytestmark = pytest.mark.django_db
DOWN = ModelError("The provider cannot be reached.", code="invalid_request", retryable=False)


@pytest.fixture
def caller(user):
    return Caller(user)


def read(caller: Caller, room: Room, **query: Any) -> Any:
    return ok(caller.get(f"threads/{room.thread.pk}/messages", **query))


def numbers(page: Any) -> list[int]:
    return [run["number"] for run in page["runs"]]


@pytest.mark.covers("fc:B10")
def test_the_run_of_every_turn_comes_with_the_page(user, caller):
    room = make([Turn(text="Here it is."), Turn(error=DOWN), Turn(text="Now it works.")], user=user)
    answered, silent = room.play("One"), room.play("Two")
    again = run_until_idle(sending.retry(silent, user=SYSTEM))
    page = read(caller, room)
    assert numbers(page) == [3, 2, 1]
    retried, failed, first = page["runs"]
    prompt = str(silent.prompt_id)
    assert (failed["order"], failed["prompt"], failed["status"], failed["retry_of"]) == (1, prompt, "failed", None)
    assert failed["error"]["code"] == "invalid_request" and failed["messages"] == []
    assert (retried["order"], retried["prompt"], retried["retry_of"]) == (1, prompt, str(silent.pk))
    assert (first["order"], first["prompt"]) == (0, str(answered.prompt_id))
    assert first["messages"] == [item["id"] for item in page["messages"] if item["run"] == first["id"]] != []
    for run, shown in ((answered, first), (silent, failed), (again, retried)):
        said = log(run)
        assert (shown["seq"], shown["order"]) == (said[-1]["seq"], said[0]["order"])


@pytest.mark.covers("fc:B10")
def test_a_call_is_shown_as_it_stands_now(user, caller):
    room = make([Turn(text="Shall I?", calls=[("pay", {"cents": 5})])], [pay], user=user)
    run = room.play()
    runs.cancel(run, user=SYSTEM)
    (shown,) = read(caller, room)["runs"]
    assert [(call["name"], call["status"]) for call in shown["calls"]] == [("pay", "canceled")]


@pytest.mark.covers("fc:B10")
def test_every_run_is_on_one_page_however_the_thread_is_paged(user, caller):
    room = make([Turn(text=str(number)) for number in range(4)], user=user)
    for number in range(3):
        room.play(str(number))
    # Turns in which nobody has said anything: at the beginning of the thread, in the middle and at its end.
    for run in (room.agent.runs.start(room.thread, user=SYSTEM) for _ in range(2)):
        runs.cancel(run, user=SYSTEM)
    room.play("last")
    for size in range(1, 12):
        seen: list[int] = []
        before: str | None = ""
        while before is not None:
            page = read(caller, room, limit=size, **({"before": before} if before else {}))
            seen += [number for number in numbers(page) if number not in seen]
            mentioned = {item["run"] for item in page["messages"] if item["run"]}
            assert mentioned <= {run["id"] for run in page["runs"]}
            before = page["before"]
        assert sorted(seen) == [1, 2, 3, 4, 5, 6], size


@tool(needs_approval=True)
def write(text: str) -> str:
    """Write."""
    return text


def everything(caller: Caller, room: Room, most: int) -> tuple[list[str], set[str], int]:
    """The ids of all messages and runs of a thread as its pages give them, and how many pages there were."""
    said: list[str] = []
    found: set[str] = set()
    pages, before = 0, ""
    while True:
        answer = caller.get(f"threads/{room.thread.pk}/messages", limit=200, **({"before": before} if before else {}))
        page = ok(answer)
        assert page["messages"] and (len(answer.content) <= most or len(page["messages"]) == 1)
        assert {item["run"] for item in page["messages"] if item["run"]} <= {run["id"] for run in page["runs"]}
        said = [item["id"] for item in page["messages"]] + said
        found |= {run["id"] for run in page["runs"]}
        pages, before = pages + 1, page["before"]
        if before is None:
            return said, found, pages


@pytest.mark.covers("fc:B9")
@pytest.mark.parametrize("char", ["x", "é", "\U0001f600", '"'], ids=["ascii", "two bytes", "four bytes", "escaped"])
def test_a_page_with_its_runs_is_bounded_by_bytes_and_goes_on_without_a_gap(user, caller, settings, char):
    settings.AGENTCORE = {**settings.AGENTCORE, "PAGE_LIMIT": 30_000}
    room = make(
        [Turn(text=char * 2000, calls=[("write", {"text": char * 1000})]) for _ in range(6)], [write], user=user
    )
    for number in range(6):
        runs.cancel(room.play(str(number)), user=SYSTEM)
    said, found, pages = everything(caller, room, 30_000)
    assert said == [
        str(pk) for pk in Message.objects.filter(thread=room.thread).in_order().values_list("pk", flat=True)
    ]
    assert found == {str(pk) for pk in Run.objects.filter(thread=room.thread).values_list("pk", flat=True)}
    assert 1 < pages < len(said)


@pytest.mark.covers("fc:B9")
def test_a_turn_that_was_tried_often_is_paged_with_its_runs(user, caller, settings):
    settings.AGENTCORE = {**settings.AGENTCORE, "PAGE_LIMIT": 30_000}
    room = make([Turn(text="x" * 4000) for _ in range(8)], user=user)
    run = room.play()
    for _ in range(7):
        Run.objects.filter(pk=run.pk).update(status="failed", error_code="refused", output={"text": "y" * 5000})
        run = run_until_idle(sending.retry(Run.objects.get(pk=run.pk), user=SYSTEM))
    said, found, pages = everything(caller, room, 30_000)
    assert (len(said), len(set(said)), len(found)) == (9, 9, 8) and pages > 1


@pytest.mark.covers("fc:B10")
def test_a_thread_in_which_only_runs_were_is_not_empty(user, caller):
    room = make([], user=user)
    run = room.agent.runs.start(room.thread, user=SYSTEM)
    runs.cancel(run, user=SYSTEM)
    page = read(caller, room)
    assert (page["messages"], numbers(page), page["before"]) == ([], [1], None)


@pytest.mark.covers("fc:B10")
def test_a_run_that_is_shown_as_ended_has_all_its_messages(user, monkeypatch):
    room = make([Turn(text="Done.")], user=user)
    run = room.send()
    found = turns._runs

    def while_it_ends(*given: Any) -> Any:
        run_until_idle(run)
        return found(*given)

    monkeypatch.setattr(turns, "_runs", while_it_ends)
    page = turns.list_(room.thread, user=user, limit=1)
    assert [shown.status for shown in page.runs] == ["succeeded"]
    assert [message.text for message in page.messages] == ["Done."]
    monkeypatch.undo()
    older = turns.list_(room.thread, user=user, limit=1, before=page.before)
    assert [message.text for message in older.messages] == ["Go"] and older.before is None


class Owners(OwnerPolicy):
    """A project's own rule, which looks at the thread: its owner says what became of its calls."""

    def may_resolve(self, user: Any, call: ToolCall) -> bool:
        return call.run.thread.owner_id == user.pk


@pytest.mark.covers("fc:F4")
@pytest.mark.parametrize("listed", ["messages", "runs", "approvals"])
def test_a_page_takes_as_many_queries_for_forty_runs_as_for_two(user, caller, settings, listed):
    settings.AGENTCORE = {**settings.AGENTCORE, "ACCESS_POLICY": f"{__name__}.Owners"}
    asked = Turn(text="Shall I?", calls=[("pay", {"cents": 5})])
    room = make([asked for _ in range(41)], [pay], user=user, on_busy="parallel")
    address = "approvals" if listed == "approvals" else f"threads/{room.thread.pk}/{listed}"

    def queries(number: int) -> int:
        for _ in range(number):
            room.play()
        if listed != "approvals":
            ToolCall.objects.update(status="effect_unverified")
        with CaptureQueriesContext(connection) as captured:
            page = ok(caller.get(address, limit=200))
        assert len(page["approvals" if listed == "approvals" else "runs"]) == Run.objects.count()
        assert all(call["question"] for run in page.get("runs", []) for call in run["calls"])
        return len(captured)

    queries(1)  # which reads once for all what a process keeps
    few = queries(1)
    assert queries(38) == few


@pytest.mark.covers("fc:E1")
def test_a_message_names_the_key_it_was_sent_with(user, caller):
    room = make([Turn(text="Hello.")], user=user)
    body = {"agent": "test", "text": "Hi", "key": "from-the-page"}
    run = ok(caller.post(f"threads/{room.thread.pk}/runs", body), 201)
    again = ok(caller.post(f"threads/{room.thread.pk}/runs", body), 200)
    assert (run["id"], run["prompt"]) == (again["id"], again["prompt"])
    run_until_idle(Run.objects.get(pk=run["id"]))
    first, answer = read(caller, room)["messages"]
    assert (first["id"], first["key"], answer["key"]) == (run["prompt"], "from-the-page", "")
    room.agent.messages.save(room.thread, "Without a key", user=user)
    said = [item for item in thread_log(room) if item["type"] == "thread.message"]
    assert [item["message"].get("key") for item in said] == ["from-the-page", None, None]


def thread_log(room: Room) -> list[dict[str, Any]]:
    return [events.decode(entry.data) for entry in streams.read(room.thread.stream_id, -1, 500)]
