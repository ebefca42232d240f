"""A stream that ends anywhere: the answer is whole, or it is asked for again; half an answer is never called one."""

from __future__ import annotations

import pytest

from agentcore.exceptions import ModelError
from agentcore.providers import CallRequested, ModelEvent, StepFinished
from agentcore.testing.faults.http_model import Reply
from tests.integration.adapter.scene import EVERY_WIRE, NAMES, chosen, model_at, request, said
from tests.wires import Finish, FunctionCall, Text, Thought, Wire, replies

pytestmark = [pytest.mark.once, pytest.mark.longer]
every_wire = pytest.mark.parametrize("wire", EVERY_WIRE, ids=NAMES)


async def read(wire: Wire, reply: Reply) -> tuple[list[ModelEvent], ModelError | None]:
    """What an answer comes to, and what broke it."""
    events: list[ModelEvent] = []
    with wire.serve(reply) as server:
        try:
            async for event in model_at(wire, server).stream(request()):
                events.append(event)
        except ModelError as error:
            return events, error
    return events, None


@every_wire
@pytest.mark.parametrize("politely", [True, False], ids=["politely", "impolitely"])
async def test_a_text_cut_anywhere_is_whole_or_is_asked_for_again(wire: Wire, politely: bool) -> None:
    whole = wire.answer(Thought("Hm", "s1"), Text(("Good ", "day.")))
    complete = 0
    for cut in replies.cuts(whole, politely=politely):
        events, error = await read(wire, cut)
        if error is None:
            complete += 1
            assert said(events) == "Good day."
            assert chosen(events, StepFinished)[-1].reason == "stop"
        else:
            assert error.retryable and error.run_code in ("network", "provider_error"), error.detail
            assert not chosen(events, StepFinished)
    assert complete <= 4  # those that are cut behind the end of the answer


@every_wire
@pytest.mark.parametrize("politely", [True, False], ids=["politely", "impolitely"])
async def test_calls_cut_anywhere_are_all_there_or_none_is_asked_for(wire: Wire, politely: bool) -> None:
    whole = wire.asks(FunctionCall("look", {"n": 1}, "a"), FunctionCall("look", {"n": 2}, "b"), text="I look.")
    for cut in replies.cuts(whole, politely=politely):
        events, error = await read(wire, cut)
        calls = chosen(events, CallRequested)
        assert len(calls) == (0 if error else 2)
        if error is not None:
            assert error.retryable, error.detail


@every_wire
async def test_an_answer_that_was_cut_at_its_length_says_so(wire: Wire) -> None:
    events, error = await read(wire, wire.says("Good ", "da", finish=Finish.LENGTH))
    assert error is None
    assert (said(events), chosen(events, StepFinished)[-1].reason) == ("Good da", "length")


@every_wire
async def test_a_filtered_answer_says_so(wire: Wire) -> None:
    events, error = await read(wire, wire.says("Good", finish=Finish.FILTERED))
    assert error is None
    assert chosen(events, StepFinished)[-1].reason in ("content_filter", "refusal")
