"""What was said, and what came of a call, stands once in the log and once in a row, and is read whole everywhere."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from django.apps import apps
from django.db import connection
from django.db.models import BinaryField
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from pydantic import BaseModel

from agentcore import SYSTEM, ToolResultPart, tool
from agentcore.declaration import registry
from agentcore.engine.runtime import Runtime
from agentcore.engine.steps import prompt
from agentcore.exceptions import ModelError, ToolFailed
from agentcore.models import Message, Run, ToolCall
from agentcore.services import execution, messages, runs, turns, unverified
from agentcore.streams.models import Record, Stream
from agentcore.testing import Turn
from agentcore.values import events
from tests.integration.room import Died, Room, die_driving, fresh, log, make

pytestmark = pytest.mark.django_db

MARK = "a-text-that-stands-nowhere-else"
LONG = f"{MARK} " + "x" * 50_000


class Value(BaseModel):
    value: str


@tool(effect="pure")
def look(number: int) -> dict[str, str]:
    """Look something up."""
    return {"found": f"{LONG} {number}"}


@tool(effect="pure")
def fail(number: int) -> str:
    """Fail."""
    raise ToolFailed(LONG)


@tool(effect="unsafe")
def doubtful(number: int) -> str:
    """Do it, and lose the worker."""
    raise Died


def copies() -> dict[str, int]:
    """In which column of which table the mark stands, how often; of a log, in which type of event."""
    found: Counter[str] = Counter()
    for model in [*apps.get_app_config("agentcore").get_models(), Stream]:
        for values in model._base_manager.values():
            for name, value in values.items():
                found[f"{model.__name__}.{name}"] += str(value).count(MARK)
    assert isinstance(Record._meta.get_field("data"), BinaryField)
    for name, data in Record.objects.values_list("stream__name", "data"):
        event = events.decode(bytes(data))
        found[f"{name.partition(':')[0]} log: {event['type']}"] += bytes(data).decode().count(MARK)
    return {place: count for place, count in found.items() if count}


@pytest.mark.covers("fc:F1")
def test_a_result_stands_once_in_the_log_and_once_in_its_row() -> None:
    run = make([Turn(calls=[("look", {"number": 1})]), Turn(text="Done.")], [look]).play()
    assert run.status == "succeeded"
    assert copies() == {"run log: tool.result": 1, "ToolCall.result": 1}


@pytest.mark.covers("fc:F1")
def test_an_error_stands_once_in_the_log_and_once_in_its_row() -> None:
    make([Turn(calls=[("fail", {"number": 1})]), Turn(text="Done.")], [fail]).play()
    assert copies() == {"run log: tool.result": 1, "ToolCall.error": 1}


@pytest.mark.covers("fc:F2")
@pytest.mark.parametrize("kind", ["text", "reasoning"])
def test_an_answer_stands_in_its_deltas_in_one_event_and_in_its_row(kind: str) -> None:
    turn = Turn(text=LONG) if kind == "text" else Turn(reasoning=LONG, text="Done.")
    make([turn]).play()
    assert copies() == {f"run log: {kind}.delta": 1, "run log: message": 1, "Message.content": 1}


@pytest.mark.covers("fc:F2")
def test_a_draft_that_was_broken_off_is_kept_like_an_answer() -> None:
    run = make([Turn(text=LONG, error=ModelError("no", code="auth"))]).play()
    assert run.status == "failed"
    assert copies() == {"run log: text.delta": 1, "run log: message": 1, "Message.content": 1}


@pytest.mark.covers("fc:F2")
def test_an_output_stands_once_in_the_log_and_once_in_its_row() -> None:
    run = make([Turn(output={"value": LONG})], output=Value).play()
    assert run.output == {"value": LONG}
    assert copies() == {"run log: output": 1, "Run.output": 1}


@pytest.mark.covers("fc:F2")
def test_what_a_person_sends_stands_in_the_log_of_the_thread_and_in_its_row() -> None:
    room = make([Turn(text="Done.")])
    room.play(LONG)
    assert copies() == {"thread log: thread.message": 1, "Message.content": 1}


@pytest.mark.covers("fc:F2")
def test_what_an_application_saves_stands_in_the_log_of_the_thread_and_in_its_row() -> None:
    room = make([])
    part = ToolResultPart("c1", "look", "succeeded", result=LONG)
    saved = messages.save(room.thread, [part], user=SYSTEM, author="tool")
    assert copies() == {"thread log: thread.message": 1, "Message.content": 1}
    assert fresh(saved).parts == (part,)


@pytest.mark.covers("fc:F2")
def test_the_log_of_a_thread_places_what_its_runs_have_said() -> None:
    run = make([Turn(calls=[("look", {"number": 1})]), Turn(text="Done.")], [look]).play()
    said = [
        events.decode(bytes(data)) for data in run.thread.stream.records.order_by("seq").values_list("data", flat=True)
    ]
    placed = [event["message"] for event in said if event["type"] == "thread.message"]
    assert [(item["author"]["kind"], item["order"], item["step_order"], "parts" in item) for item in placed] == [
        ("user", 0, 0, True),
        ("agent", 0, 1, False),
        ("tool", 0, 2, False),
        ("agent", 0, 3, False),
    ]
    assert [item["run"] for item in placed] == [None, *[str(run.pk)] * 3]


def looks(count: int) -> Room:
    """A thread in which a run has looked so many things up."""
    room = make([Turn(calls=[("look", {"number": number}) for number in range(count)]), Turn(text="Done.")], [look])
    room.play()
    return room


def results(parts: Any) -> list[Any]:
    """What calls returned, as parts of messages tell."""
    return [part.result for part in parts if isinstance(part, ToolResultPart)]


@pytest.mark.covers("fc:F1")
def test_a_model_reads_results_in_the_run_and_after_it() -> None:
    room = make([Turn(calls=[("look", {"number": 1})]), Turn(text="Done."), Turn(text="Again.")], [look])
    room.play()
    room.play()
    for request in room.model.requests[1:]:
        assert results(part for message in request.messages for part in message.parts) == [{"found": f"{LONG} 1"}]


@pytest.mark.covers("fc:F1")
def test_a_model_reads_results_in_a_run_that_another_worker_has_taken_over() -> None:
    room = make(
        [Turn(calls=[("look", {"number": 1}), ("doubtful", {"number": 1})]), Turn(text="Done.")], [look, doubtful]
    )
    run = room.send()
    die_driving(run)
    execution.drive(run.pk, Runtime("another", inline=True))
    for call in ToolCall.objects.filter(run=run, status="effect_unverified"):
        unverified.resolve(run, call.call_id, "happened", user=SYSTEM, result="it happened")
    execution.drive(run.pk, Runtime("another", inline=True))
    assert fresh(run).status == "succeeded"
    told = results(part for message in room.model.requests[-1].messages for part in message.parts)
    assert {"found": f"{LONG} 1"} in told and "it happened" in told


READERS: dict[str, Callable[[Room], Any]] = {
    "history": lambda room: [message.parts for message in prompt.history(Run.objects.get(), 100)],
    "messages.list": lambda room: [message.parts for message in messages.list_(room.thread, user=SYSTEM).messages],
    "turns.list": lambda room: [message.parts for message in turns.list_(room.thread, user=SYSTEM).messages],
    "rows": lambda room: [message.parts for message in Message.objects.in_order()],
    "the thread's rows": lambda room: [message.parts for message in room.thread.messages.in_order()],
    "the run's rows": lambda room: [message.parts for message in Run.objects.get().messages.all()],
}


@pytest.mark.covers("fc:F1")
@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_every_reader_gets_results_whole_with_one_query(read: Callable[[Room], Any]) -> None:
    counts = []
    for often in (1, 12):
        Run.objects.all().delete()
        with registry.isolated():
            room = looks(often)
        with CaptureQueriesContext(connection) as captured:
            found = read(room)
        assert [result["found"].startswith(MARK) for said in found for result in results(said)] == [True] * often
        counts.append(len(captured))
    assert counts[0] == counts[1]


@pytest.mark.covers("fc:F1")
def test_a_message_read_by_itself_has_its_result() -> None:
    looks(1)
    said = Message.objects.get(author_kind="tool")
    assert results(said.parts) == [{"found": f"{LONG} 0"}]
    assert said.content == {"v": 1, "parts": []}


@pytest.mark.covers("fc:F1")
def test_the_api_and_the_admin_show_results(admin_client: Client) -> None:
    room = looks(1)
    page = admin_client.get(reverse("agentcore:list_messages", args=[room.thread.pk])).json()
    (part,) = page["messages"][2]["parts"]
    assert (part["type"], part["status"], part["result"]) == ("tool-result", "succeeded", {"found": f"{LONG} 0"})
    shown = admin_client.get(reverse("admin:agentcore_thread_change", args=[room.thread.pk])).content.decode()
    assert MARK in shown


@pytest.mark.covers("fc:F1")
def test_a_page_counts_the_results_that_come_along(settings: Any) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "PAGE_LIMIT": 120_000}
    room = looks(5)
    newest = messages.list_(room.thread, user=SYSTEM)
    assert len(results(part for message in newest.messages for part in message.parts)) == 2
    assert newest.before is not None


@pytest.mark.covers("fc:F1")
def test_an_answer_after_the_end_is_read_in_later_turns() -> None:
    room = make([Turn(calls=[("doubtful", {"number": 1})]), Turn(text="Done.")], [doubtful])
    run = room.send()
    die_driving(run)
    execution.drive(run.pk, Runtime("another", inline=True))
    runs.cancel(run, user=SYSTEM)
    call = ToolCall.objects.get(run=run)
    assert call.status == "effect_unverified"
    unverified.resolve(run, call.call_id, "happened", user=SYSTEM, result="it happened")
    room.play("And now?")
    told = [p for m in room.model.requests[-1].messages for p in m.parts if isinstance(p, ToolResultPart)]
    assert [(part.status, part.result) for part in told] == [("succeeded", "it happened")]


@pytest.mark.covers("fc:F1")
def test_a_loop_reads_results_without_a_query_of_its_own() -> None:
    """What a reader has loaded is whole: nothing is left to be read on an event loop, where it cannot be."""
    looks(3)
    said = list(Message.objects.in_order())

    async def read() -> list[Any]:
        return [results(message.parts) for message in said]

    assert len([found for found in asyncio.run(read()) if found]) == 3


@pytest.mark.covers("fc:F1")
def test_the_message_of_a_result_names_its_call_in_the_log() -> None:
    run = make([Turn(calls=[("look", {"number": 1})]), Turn(text="Done.")], [look]).play()
    (said,) = [e["message"] for e in log(run) if e["type"] == "message" and e["message"]["author"]["kind"] == "tool"]
    call = run.tool_calls.get()
    assert said["parts"] == [{"type": "tool-result", "call_id": call.call_id, "name": "look"}]
    assert "text" not in said
