"""The contract of a model's adapter, as a check that whoever writes one runs on theirs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, cast
from uuid import uuid4

from ..declaration import declared
from ..declaration.model import (
    AgentModel,
    CallRequested,
    ModelEvent,
    ModelMessage,
    ModelRequest,
    OutputProduced,
    StepFinished,
    TextDelta,
    ToolSpec,
    UsageReported,
)
from ..exceptions import UserError
from ..providers.named import model_of
from ..values import jsontext
from ..values.finish import FinishReason, reason_of
from ..values.parts import (
    FilePart,
    Part,
    ProviderCallPart,
    ProviderResultPart,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from ..values.usage import Usage

SECONDS = 120.0  # for one answer
HELLO = "Say hello, in one short sentence."
SUM = "Use the tool `add` to add 19 and 23, then tell me the sum."
ADD = ToolSpec(
    "add",
    "Add two integers.",
    {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]},
)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"sum": {"type": "integer"}},
    "required": ["sum"],
    "additionalProperties": False,
}


def check_model(model: AgentModel | str) -> None:
    """Ask a model all that agentcore asks of one; raises `AssertionError` that names each promise it breaks.

    It makes about ten calls, of a few hundred tokens: point the adapter at a local server that answers like its
    provider, or at the provider itself. Each promise is tried on an event loop of its own, as workers do.
    """
    model = model_of(model)
    broken = []
    for promise in PROMISES:
        try:
            asyncio.run(_in_time(promise, model))
        except Exception as error:
            said = str(error) or type(error).__name__
            broken.append(f"- {(promise.__doc__ or '').strip()} {type(error).__name__}: {said}")
    if broken:
        raise AssertionError(f"{model!r} breaks {len(broken)} of {len(PROMISES)} promises:\n" + "\n".join(broken))


async def _in_time(promise: Callable[[AgentModel], Awaitable[None]], model: AgentModel) -> None:
    async with asyncio.timeout(SECONDS):
        await promise(model)


async def has_a_name(model: AgentModel) -> None:
    """It has a name, a provider, and a stream that is an asynchronous generator."""
    try:
        declared.model("The model", model)
    except UserError as error:
        raise AssertionError(error.message) from error


async def answers(model: AgentModel) -> None:
    """It answers with text, and says last why it stops, in a word that is known."""
    said = await _said(model, _request(HELLO))
    assert _text(said).strip(), "no TextDelta came"
    ends = [event for event in said if isinstance(event, StepFinished)]
    assert len(ends) == 1, f"{len(ends)} StepFinished came instead of one"
    after = said[said.index(ends[0]) + 1 :]
    assert all(isinstance(event, UsageReported) for event in after), f"{after} came after StepFinished"
    reason = None if ends[0].reason is None else reason_of(ends[0].reason)[0]
    assert reason not in (None, FinishReason.OTHER), f"it stopped with {ends[0].reason!r}"


async def reports_usage(model: AgentModel) -> None:
    """It reports what a call used, as counts of the call so far."""
    used = Usage()
    for event in await _said(model, _request(HELLO)):
        if isinstance(event, UsageReported):
            used, refused = used.updated(event.usage)
            assert not refused, f"what is no count: {', '.join(refused)}"
    assert used.input_tokens and used.output_tokens, f"reported were {used}"


async def goes_through_a_tool(model: AgentModel) -> None:
    """It asks for a tool with JSON arguments, and answers once it is given the result, under another call id."""
    said = await _said(model, _request(SUM, tools=(ADD,)))
    calls = [event for event in said if isinstance(event, CallRequested)]
    assert calls and calls[0].name == "add", "no CallRequested of `add` came"
    given = calls[0].arguments
    arguments = jsontext.parse(given) if isinstance(given, str) else dict(given)
    assert arguments == {"a": 19, "b": 23}, f"the arguments are {given!r}"
    call_id = f"call_{uuid4().hex}"
    asked = ToolCallPart(call_id, "add", arguments, provider_details=calls[0].provider_details)
    result = ToolResultPart(call_id, "add", "succeeded", 42)
    more = (ModelMessage("agent", "test", (TextPart("I add."), asked)), ModelMessage("tool", "add", (result,)))
    assert "42" in _text(await _said(model, _request(SUM, *more, tools=(ADD,)))), "the sum is not in the answer"


async def reads_any_history(model: AgentModel) -> None:
    """It takes any part that a history may have, also such as its provider has no word for."""
    parts: tuple[Part, ...] = (
        ReasoningPart("Let me see."),
        TextPart("I add."),
        TextPart("And look."),
        ProviderCallPart("ws_1", "web_search", {"query": "sum"}),
        ProviderResultPart("ws_1", "web_search", {"pages": 1}),
        SourcePart("A page", url="https://example.com"),
        ToolCallPart("call_1", "add", {"a": 1, "b": 2}),
        ToolCallPart("call_2", "gone_since", {}),
    )
    results = (
        ToolResultPart("call_1", "add", "denied", error="Not today."),
        ToolResultPart("call_2", "gone_since", "failed", error="There is no such tool."),
    )
    history = (
        ModelMessage("system", "desk", (TextPart("The customer is a friend."),)),
        ModelMessage("agent", "test", parts),
        *(ModelMessage("tool", result.name, (result,)) for result in results),
        ModelMessage("user", "ada", (TextPart(HELLO), FilePart("f1", "a.txt", "text/plain"))),
    )
    assert _text(await _said(model, _request(SUM, *history, tools=(ADD,)))).strip(), "no TextDelta came"


async def makes_an_output(model: AgentModel) -> None:
    """It makes an output of the schema, beside tools."""
    said = await _said(model, _request("What is 19 + 23? No tool is needed.", tools=(ADD,), output_schema=SCHEMA))
    outputs = [event.value for event in said if isinstance(event, OutputProduced)]
    assert outputs and outputs[-1] == {"sum": 42}, f"the outputs are {outputs}"


async def answers_two_at_once(model: AgentModel) -> None:
    """It answers two requests at once, each for itself."""
    both = await asyncio.gather(_said(model, _request(HELLO)), _said(model, _request(HELLO)))
    assert all(_text(said).strip() for said in both), "one of them has no text"


async def can_be_closed(model: AgentModel) -> None:
    """It lets go when its stream is closed in the middle, and answers the next request."""
    async with aclosing(cast(Any, model.stream(_request(HELLO)))) as stream:
        async for _ in stream:
            break
    await answers(model)


PROMISES: Sequence[Callable[[AgentModel], Awaitable[None]]] = (
    has_a_name,
    answers,
    reports_usage,
    goes_through_a_tool,
    reads_any_history,
    makes_an_output,
    answers_two_at_once,
    can_be_closed,
)


def _request(
    prompt: str,
    *more: ModelMessage,
    tools: tuple[ToolSpec, ...] = (),
    output_schema: dict[str, Any] | None = None,
) -> ModelRequest:
    return ModelRequest(
        run_id=uuid4(),
        agent="test",
        step=1,
        attempt=1,
        instructions="You are being tested. Be brief.",
        context=(),
        messages=(ModelMessage("user", "ada", (TextPart(prompt),)), *more),
        tools=tools,
        output_schema=output_schema,
    )


async def _said(model: AgentModel, request: ModelRequest) -> list[ModelEvent]:
    stream: AsyncIterator[ModelEvent] = model.stream(request)
    return [event async for event in stream]


def _text(said: Sequence[ModelEvent]) -> str:
    return "".join(event.text for event in said if isinstance(event, TextDelta))
