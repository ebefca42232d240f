"""What a model is shown of a thread: whole turns, nothing later, nothing unfinished, calls with their results."""

from __future__ import annotations

import pytest

from agentcore import SYSTEM, TextPart, ToolCallPart, ToolResultPart, tool
from agentcore.engine import snapshot
from agentcore.engine.steps import conversation, prompt
from agentcore.exceptions import ModelError
from agentcore.models import Message
from agentcore.providers import CallRequested, ReasoningDelta, ReasoningEnded, StepFinished, TextDelta
from agentcore.services import messages, runs, sending
from agentcore.testing import Turn, run_until_idle
from tests.integration.room import fresh, make
from tests.integration.says import Says

pytestmark = pytest.mark.django_db


@tool(effect="pure")
def look(number: int) -> str:
    """Look something up."""
    return f"found {number}"


@tool(needs_approval=True)
def pay(cents: int) -> str:
    """Pay."""
    return "paid"


def shown(request) -> list[str]:
    """The texts, calls and results of a request, in order."""
    lines = []
    for message in request.messages:
        for part in message.parts:
            match part.type:
                case "text":
                    lines.append(f"{message.author}: {part.text}")
                case "tool-call":
                    lines.append(f"call {part.name} {part.arguments}")
                case "tool-result":
                    lines.append(f"result {part.status} {part.result}")
    return lines


@pytest.mark.covers("api:M1", "api:M2")
def test_a_model_sees_the_earlier_turns_and_its_own_with_calls_and_results_in_order():
    room = make([Turn(text="One."), Turn(text="Hm.", calls=[("look", {"number": 2})]), Turn(text="Two.")], [look])
    room.play("first")
    room.play("second")
    assert shown(room.model.requests[2]) == [
        "user: first",
        "agent: One.",
        "user: second",
        "agent: Hm.",
        "call look {'number': 2}",
        "result succeeded found 2",
    ]


@pytest.mark.covers("api:M2")
def test_a_run_never_sees_a_message_that_was_sent_after_its_own():
    room = make([Turn(text="One."), Turn(text="Two.")])
    first = room.send("first")
    second = room.send("second")
    messages.save(room.thread, "a note", user=SYSTEM)
    run_until_idle(first)
    assert shown(room.model.requests[0]) == ["user: first"]
    run_until_idle(second)
    assert shown(room.model.requests[1]) == ["user: first", "agent: One.", "user: second"]


@pytest.mark.covers("api:M2")
def test_what_a_failed_or_canceled_run_has_said_is_not_shown():
    broken = Turn(deltas=["Half an answer"], error=ModelError("no", code="auth"))
    room = make([broken, Turn(calls=[("pay", {"cents": 1})], text="Shall I?"), Turn(text="Fine.")], [pay])
    room.play("first")
    canceled = room.play("second")
    runs.cancel(canceled, user=SYSTEM)
    Message.objects.create(
        thread=room.thread,
        order=90,
        step_order=0,
        author_kind="agent",
        status="streaming",
        content={"v": 1, "parts": []},
    )
    room.play("third")
    said = shown(room.model.requests[-1])
    assert "agent: Half an answer" not in said
    # The canceled call has its result, so the pair is told: the model must not believe it was made.
    assert said == [
        "user: first",
        "user: second",
        "agent: Shall I?",
        "call pay {'cents': 1}",
        "result canceled None",
        "user: third",
    ]


@pytest.mark.covers("api:M2")
@pytest.mark.parametrize("recent", range(1, 9))
def test_trimming_never_splits_a_turn_nor_drops_the_prompt(recent):
    turns = []
    for number in range(3):
        turns += [Turn(calls=[("look", {"number": number})]), Turn(text=f"Answer {number}.")]
    room = make(turns, [look], recent_messages=recent)
    for number in range(3):
        room.play(f"question {number}")
    for request in room.model.requests:
        said = shown(request)
        assert said[0].startswith("user: question")
        prompt = f"user: question {(room.model.requests.index(request)) // 2}"
        assert prompt in said
        earlier = said[: said.index(prompt)]
        assert len(earlier) % 4 == 0, "an earlier turn is shown in part"
        assert sum(line.startswith("call") for line in said) == sum(line.startswith("result") for line in said)
        assert not earlier or len(request.messages) <= recent


@pytest.mark.covers("api:M2")
def test_a_long_turn_keeps_its_prompt_and_all_its_calls():
    turns = [Turn(calls=[("look", {"number": number})]) for number in range(6)]
    room = make([*turns, Turn(text="Done.")], [look], recent_messages=4)
    assert room.play("look six times").status == "succeeded"
    last = shown(room.model.requests[-1])
    assert last[0] == "user: look six times" and len(last) == 13


@pytest.mark.covers("api:M2")
def test_the_open_call_of_a_parallel_run_is_not_shown_even_under_the_same_id():
    """Providers repeat ids: an id is one run's only."""
    room = make([Turn(text="Asking.", calls=[("pay", {"cents": 1})]), Turn(text="Hello.")], [pay], on_busy="parallel")
    waiting = room.play("pay")
    call_id = waiting.tool_calls.get().call_id
    other = room.play("hello")
    Message.objects.filter(run=other, author_kind="agent").update(
        content={
            "v": 1,
            "parts": [
                {"type": "tool-call", "call_id": call_id, "name": "look", "arguments": {"number": 1}},
                {"type": "tool-result", "call_id": call_id, "name": "look", "status": "succeeded", "result": "x"},
            ],
        }
    )
    said = conversation.shown(prompt.history(fresh(other), 100), other.order, 100)
    calls = [part.name for message in said for part in message.parts if part.type == "tool-call"]
    assert calls == ["look"]


@pytest.mark.covers("api:M2")
def test_the_turn_of_a_new_run_is_its_prompt_and_needs_no_query(django_assert_num_queries):
    room = make([Turn(text="One.")])
    room.play("first")
    run = snapshot.load(room.send("second").pk).run
    with django_assert_num_queries(1):
        said = prompt.history(run, 100)
        assert [message.text for message in said] == ["first", "One.", "second"]


@pytest.mark.covers("api:M2")
def test_a_retry_is_shown_what_the_run_before_it_has_kept():
    broken = Turn(error=ModelError("no", code="auth"))
    room = make([Turn(text="One."), Turn(calls=[("look", {"number": 2})]), broken, Turn(text="Two.")], [look])
    room.play("first")
    failed = room.play("second")
    run_until_idle(sending.retry(failed, user=SYSTEM))
    assert shown(room.model.requests[-1]) == [
        "user: first",
        "agent: One.",
        "user: second",
        "call look {'number': 2}",
        "result succeeded found 2",
    ]


def test_a_result_stands_behind_its_call_however_late_it_came() -> None:
    """Somebody found out what became of a call when the thread had gone on: strict providers take no result there."""
    room = make([Turn(calls=[("look", {}), ("look", {})]), Turn(text="Done."), Turn(text="And on.")], [look])
    run = room.play()
    calls = [part.call_id for part in Message.objects.get(run=run, step_order=1).parts if part.type == "tool-call"]
    late = Message.objects.get(run=run, tool_call__call_id=calls[0])
    Message.objects.filter(pk=late.pk).update(step_order=90)
    room.play()
    asked, *results = room.model.requests[2].messages[1:4]
    assert [part.call_id for part in asked.parts] == calls
    assert [result.parts[0].call_id for result in results] == calls


def test_results_under_one_id_that_an_application_saved_stand_each_with_its_own_call() -> None:
    room = make([Turn(text="Done.")])
    for number in (1, 2):
        call = ToolCallPart("call_0", "look", {"number": number})
        messages.save(room.thread, [call], user=SYSTEM, author="agent")
        result = ToolResultPart("call_0", "look", "succeeded", f"found {number}")
        messages.save(room.thread, [result], user=SYSTEM, author="tool")
    room.play("And now?")
    assert shown(room.model.requests[0]) == [
        "call look {'number': 1}",
        "result succeeded found 1",
        "call look {'number': 2}",
        "result succeeded found 2",
        "user: And now?",
    ]


def test_reasoning_that_led_to_an_open_call_is_not_sent_without_it() -> None:
    """Strict providers refuse reasoning without what it led to; what was said beside it is told."""
    asks = [
        ReasoningDelta("I pay"),
        ReasoningEnded({"id": "rs_1"}),
        TextDelta("Shall I?"),
        CallRequested("c", "pay", {"cents": 5}, {"id": "fc_1"}),
        StepFinished("tool_calls", {"id": "resp_1"}),
    ]
    room = make(Says(asks, [TextDelta("Hello."), StepFinished("stop")], origin="here"), [pay], on_busy="parallel")
    assert room.play("pay").status == "waiting"
    room.play("hello")
    (said,) = [message for message in room.model.requests[1].messages if message.author == "agent"]
    assert (said.parts, said.origin, said.provider_details) == ((TextPart("Shall I?"),), "", None)
