"""Servers that say they speak OpenAI's chat completions: what they do comes to an answer, a retry, or a clear fault."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentcore import Usage
from agentcore.exceptions import ModelError
from agentcore.providers import CallRequested, ReasoningDelta, StepFinished, UsageReported
from agentcore.testing.faults.http_model import Reply
from tests.integration.adapter.scene import EVERY_WIRE, NAMES, chosen, events_of, model_at, room_at, said
from tests.wires import WIRES, FunctionCall, Wire, oddities

pytestmark = [pytest.mark.once, pytest.mark.longer, pytest.mark.django_db]
CHAT = WIRES["chat"]

NOT_ENDED = {"no reason", "no reason and no last word"}
ANSWERED = {name: reply for name, reply in oddities.ANSWERS.items() if name not in NOT_ENDED}

ONE = [("look", {"n": 1})]
NO_ARGUMENTS: list[tuple[str, Any]] = [("look", {})]
CALLED: dict[str, list[tuple[str, Any]]] = {
    **dict.fromkeys(oddities.CALLS, ONE),
    **{name: [("look", {"n": 1}), ("look", {"n": 2})] for name in oddities.CALLS if name.startswith("two calls")},
    "arguments null": NO_ARGUMENTS,
    "arguments empty": NO_ARGUMENTS,
    "arguments {}": NO_ARGUMENTS,
    "arguments null as text": NO_ARGUMENTS,
}
UNREADABLE = {"arguments no JSON", "arguments cut off", "arguments said twice", "two calls under one index"}
LOST = {"the old function_call", "no reason", "name empty"}
READABLE = {name: reply for name, reply in oddities.CALLS.items() if name not in UNREADABLE | LOST}


async def events_for(reply: Reply) -> list[Any]:
    with CHAT.serve(reply) as server:
        return await events_of(model_at(CHAT, server))


@pytest.mark.filterwarnings("ignore:Unexpected non-string value")  # for reasoning that is no text, and is left out
@pytest.mark.parametrize("reply", ANSWERED.values(), ids=ANSWERED)
async def test_an_odd_answer_is_an_answer(reply: Reply) -> None:
    events = await events_for(reply)
    assert said(events) == oddities.TEXT
    assert chosen(events, StepFinished)[-1].reason in ("stop", "eos_token")


@pytest.mark.parametrize("name", sorted(NOT_ENDED))
async def test_an_answer_that_does_not_say_why_it_ends_is_asked_for_again(name: str) -> None:
    with pytest.raises(ModelError) as raised:
        await events_for(oddities.ANSWERS[name])
    assert (raised.value.run_code, raised.value.retryable) == ("network", True)


@pytest.mark.parametrize("reply", READABLE.values(), ids=READABLE)
async def test_an_odd_call_is_a_call(reply: Reply, request: pytest.FixtureRequest) -> None:
    events = await events_for(reply)
    found = [(call.name, _read(call.arguments)) for call in chosen(events, CallRequested)]
    assert found == CALLED[request.node.callspec.id]
    assert all(call.call_id for call in chosen(events, CallRequested))
    assert chosen(events, StepFinished)[-1].reason == "tool_calls"


@pytest.mark.parametrize("name", sorted(UNREADABLE))
def test_a_call_that_cannot_be_read_is_told_to_the_model_and_never_runs(name: str) -> None:
    with CHAT.serve(oddities.CALLS[name], CHAT.says("I give up.")) as server:
        run = room_at(CHAT, server).play()
        told = json.dumps(server.requests[1].body)
    assert run.status == "succeeded", run.error_detail
    assert [call.status for call in run.tool_calls.all()] == ["failed"]
    assert "cannot be read as JSON" in told and "seen" not in told


async def test_counts_in_every_chunk_are_of_all_so_far() -> None:
    events = await events_for(oddities.ANSWERS["counts in every chunk, each of all so far"])
    usage = Usage()
    for event in chosen(events, UsageReported):
        usage, _ = usage.updated(event.usage)
    assert (usage.input_tokens, usage.output_tokens) == (10, 5)


@pytest.mark.parametrize("name", ["reasoning in reasoning", "reasoning in both", "reasoning in tags"])
async def test_reasoning_is_no_text_wherever_it_stands(name: str) -> None:
    events = await events_for(oddities.ANSWERS[name])
    assert "".join(event.text for event in chosen(events, ReasoningDelta)) == "Hm"


@pytest.mark.parametrize("frame", oddities.ERRORS.values(), ids=oddities.ERRORS)
async def test_an_odd_error_in_the_middle_of_a_stream_is_a_failure(frame: bytes) -> None:
    with pytest.raises(ModelError) as raised:
        await events_for(Reply([oddities.sse(oddities.SAID), frame]))
    assert raised.value.retryable, raised.value.detail


def _read(arguments: Any) -> Any:
    return (json.loads(arguments or "{}") or {}) if isinstance(arguments, str) else arguments


@pytest.mark.parametrize("wire", EVERY_WIRE, ids=NAMES)
async def test_a_name_that_repeats_a_tools_is_that_tools_in_chat_alone(wire: Wire) -> None:
    with wire.serve(wire.asks(FunctionCall("looklook", {"n": 1}, "a"))) as server:
        (call,) = chosen(await events_of(model_at(wire, server)), CallRequested)
    assert call.name == ("look" if wire.name in ("chat", "openrouter") else "looklook")
