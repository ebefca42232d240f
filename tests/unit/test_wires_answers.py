"""What the servers of the wires say, the published clients understand, and what those send back, the servers take."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from typing import Any

import pytest
from pydantic_ai.messages import (
    FilePart,
    NativeToolCallPart,
    NativeToolReturnPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.native_tools import ImageGenerationTool, WebSearchTool
from pydantic_ai.output import OutputObjectDefinition

from tests.unit.published import LOOK, SETTINGS, WITH_LOOK, hear, prompt, published, results
from tests.wires import WIRES, Citation, Counts, Finish, FunctionCall, Image, Refusal, Search, Text, Wire
from tests.wires.replies import body, stays

pytestmark = [pytest.mark.once, pytest.mark.longer]

ONE, TWO = FunctionCall("look", {"n": 1}, "call_1"), FunctionCall("look", {"n": 2}, "call_2")
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> Wire:
    return WIRES[request.param]


async def test_text_arrives_with_the_reason_and_the_counts(wire: Wire) -> None:
    with wire.serve(wire.says("Good ", "day.", counts=Counts(100, 50, cached=30, reasoning=20))) as server:
        async with published(wire, server) as model:
            answer = await hear(model)
    assert (answer.text, answer.finish_reason, len(server.requests)) == ("Good day.", "stop", 1)
    usage = answer.usage
    assert (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens) == (100, 50, 30)
    assert 20 in usage.details.values()


@pytest.mark.parametrize(
    "finish, heard",
    [(Finish.LENGTH, "length"), (Finish.FILTERED, "content_filter")],
    ids=["length", "filtered"],
)
async def test_an_answer_ends_for_its_reason(wire: Wire, finish: Finish, heard: str) -> None:
    with wire.serve(wire.says("Good", finish=finish)) as server:
        async with published(wire, server) as model:
            answer = await hear(model)
    assert (answer.text, answer.finish_reason) == ("Good", heard)


async def test_a_refusal_is_told_as_one(wire: Wire) -> None:
    with wire.serve(wire.answer(Refusal("I will not."), finish=Finish.REFUSED)) as server:
        async with published(wire, server) as model:
            answer = await hear(model)
    assert answer.finish_reason == "content_filter"
    assert "I will not." in (answer.provider_details or {}).values()


async def test_a_loop_of_tools_keeps_its_thoughts_and_calls(wire: Wire) -> None:
    asked = wire.thinks("Hmm", "s1" if wire.signs else None, ONE, TWO, finish=Finish.CALLS)
    with wire.serve(asked, wire.says("Good day.")) as server:
        async with published(wire, server) as model:
            first = await hear(model)
            last = await hear(model, [prompt("Go"), first, results(first)])
    assert [(call.tool_name, call.args_as_dict()) for call in first.tool_calls] == [
        ("look", {"n": 1}),
        ("look", {"n": 2}),
    ]
    assert "".join(part.content for part in first.parts if isinstance(part, ThinkingPart)) == "Hmm"
    assert last.text == "Good day."
    sent = json.dumps(server.requests[1].body)
    assert sent.count("found") == 2
    assert not wire.signs or wire.seal("s1") in sent


@pytest.mark.parametrize("wire", [wire for wire in WIRES.values() if wire.signs], ids=lambda wire: wire.name)
async def test_a_hidden_thought_comes_back_as_it_was(wire: Wire) -> None:
    with wire.serve(wire.thinks("", "s1", ONE, finish=Finish.CALLS), wire.says("Good day.")) as server:
        async with published(wire, server) as model:
            first = await hear(model)
            await hear(model, [prompt("Go"), first, results(first)])
    assert wire.seal("s1") in json.dumps(server.requests[1].body)


async def test_texts_and_calls_come_in_their_order(wire: Wire) -> None:
    with wire.serve(wire.asks(ONE, text="Let me see.")) as server:
        async with published(wire, server) as model:
            answer = await hear(model)
    assert [type(part) for part in answer.parts] == [TextPart, ToolCallPart]


@pytest.fixture
def finds() -> ModelRequestParameters:
    return ModelRequestParameters(native_tools=[WebSearchTool()])


async def test_a_search_of_the_providers_own_is_call_and_result_or_citations(wire: Wire, finds: Any) -> None:
    found = wire.answer(Search("tides"), Text(("High ", "water"), (Citation(),)))
    with wire.serve(found, wire.says("Good day.")) as server:
        async with published(wire, server) as model:
            asked = WITH_LOOK if wire.name == "chat" else finds
            answer = await hear(model, parameters=asked)
            await hear(model, [prompt("Go"), answer, prompt("Go on")], asked)
    kinds = {type(part) for part in answer.parts}
    assert ({NativeToolCallPart, NativeToolReturnPart} <= kinds) == (wire.name not in ("chat", "openrouter"))
    [text] = [part for part in answer.parts if isinstance(part, TextPart)]
    assert text.content == "High water"
    assert "https://example.org/tides" in str(text.citations)


async def test_a_structured_answer_is_text(wire: Wire) -> None:
    shape = OutputObjectDefinition(json_schema=LOOK.parameters_json_schema, name="answer", strict=True)
    asked = ModelRequestParameters(output_mode="native", output_object=shape)
    with wire.serve(wire.says('{"n": 1}')) as server:
        async with published(wire, server) as model:
            answer = await hear(model, parameters=asked)
    assert json.loads(answer.text or "") == {"n": 1}
    assert '"n"' in json.dumps(server.requests[0].body)


DRAW = ModelRequestParameters(native_tools=[ImageGenerationTool()], allow_image_output=True)


@pytest.mark.parametrize(
    "name, asked, heard",
    [("responses", DRAW, [PNG]), ("gemini", WITH_LOOK, [PNG]), ("openrouter", WITH_LOOK, [])],
    ids=["responses", "gemini", "openrouter"],
)
async def test_pictures_arrive_where_the_wire_has_them(
    name: str, asked: ModelRequestParameters, heard: list[bytes]
) -> None:
    """The published client hears none of OpenRouter's."""
    wire = WIRES[name]
    with wire.serve(wire.answer(Image(PNG))) as server:
        async with published(wire, server) as model:
            answer = await hear(model, parameters=asked)
    assert [part.content.data for part in answer.parts if isinstance(part, FilePart)] == heard
    assert b64encode(PNG) in body(wire.answer(Image(PNG)))


async def test_a_client_that_goes_away_is_seen_to_go(wire: Wire) -> None:
    with wire.serve(stays(wire.says("a", "b", "c", "d"), 5)) as server:
        async with published(wire, server) as model:
            async with model.request_stream([prompt("Go")], SETTINGS, WITH_LOOK) as stream:
                async for _ in stream:
                    break
        assert await asyncio.to_thread(server.hung_up.wait, 10)
