"""Whatever wire an answer comes by, it comes to the same events."""

from __future__ import annotations

import pytest

from agentcore import Usage
from agentcore.exceptions import ModelError
from agentcore.providers import CallRequested, ReasoningDelta, StepFinished, TextDelta, UsageReported
from tests.integration.adapter.scene import EVERY_WIRE, NAMES, chosen, events_of, model_at, said
from tests.wires import FunctionCall, Wire
from tests.wires.parts import Counts

pytestmark = pytest.mark.once
every_wire = pytest.mark.parametrize("wire", EVERY_WIRE, ids=NAMES)


@every_wire
async def test_text_arrives_as_it_comes_and_ends_with_its_reason(wire: Wire) -> None:
    with wire.serve(wire.says("Good ", "day.")) as server:
        events = await events_of(model_at(wire, server))
    assert [event.text for event in chosen(events, TextDelta)] == ["Good ", "day."]
    assert [event.reason for event in chosen(events, StepFinished)] == ["stop"]


@every_wire
async def test_parallel_calls_arrive_complete_and_in_order(wire: Wire) -> None:
    calls = [FunctionCall("look", {"n": 1}, "a"), FunctionCall("look", {"n": 2}, "b")]
    with wire.serve(wire.asks(*calls, text="I look.")) as server:
        events = await events_of(model_at(wire, server))
    found = chosen(events, CallRequested)
    assert [(call.call_id, call.name) for call in found] == [("a", "look"), ("b", "look")]
    assert [str(call.arguments).replace("'", '"') for call in found] == ['{"n": 1}', '{"n": 2}']
    assert said(events) == "I look."
    assert chosen(events, StepFinished)[-1].reason == "tool_calls"


@every_wire
async def test_reasoning_arrives_apart_from_the_text(wire: Wire) -> None:
    with wire.serve(wire.answer(*_thought_and_text(wire))) as server:
        events = await events_of(model_at(wire, server))
    assert "".join(event.text for event in chosen(events, ReasoningDelta)) == "Hm, well"
    assert said(events) == "Good day."


@every_wire
async def test_usage_is_of_the_call_so_far_with_its_finer_counts(wire: Wire) -> None:
    counts = Counts(input=100, output=50, cached=30, reasoning=20)
    with wire.serve(wire.answer(*_thought_and_text(wire), counts=counts)) as server:
        events = await events_of(model_at(wire, server))
    usage = Usage()
    for event in chosen(events, UsageReported):
        usage, refused = usage.updated(event.usage)
        assert not refused
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (100, 50, 150)
    assert usage.details == {"cache_read_tokens": 30, "reasoning_tokens": 20}


@every_wire
async def test_a_call_is_asked_once_and_never_by_the_sdk_again(wire: Wire) -> None:
    from tests.wires import Fault

    with wire.serve(wire.fails(Fault.SERVER), wire.says("Too late.")) as server:
        with pytest.raises(ModelError):
            await events_of(model_at(wire, server))
        assert len(server.requests) == 1


def _thought_and_text(wire: Wire) -> tuple[object, object]:
    from tests.wires import Text, Thought

    return Thought("Hm, well", "s1"), Text(("Good ", "day."))
