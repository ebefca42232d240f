"""What tests of the demo's OpenAI-compatible provider share: a request, an answer to it, and the events it comes to."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from agentcore import TextPart
from agentcore.providers import ModelEvent, ModelMessage, ModelRequest, ToolSpec
from agentcore.testing.faults.http_model import HttpModel, Reply
from agentcore.testing.faults.wire import DONE, sse
from supportdemo.providers.openai import OpenAIModel

LOOKUP = ToolSpec("lookup_order", "Look up an order.", {"type": "object", "properties": {"number": {"type": "string"}}})
HELLO = ModelMessage("user", "ada", (TextPart("Hello"),))


def stream_of(*events: Any) -> Reply:
    """An answer that is streamed event by event, to its end."""
    return Reply([*map(sse, events), DONE])


def model_at(provider: HttpModel) -> OpenAIModel:
    """The demo's provider, for this server."""
    return OpenAIModel("test-1", api_key="sk-secret", base_url=provider.url)


def request(*messages: ModelMessage, schema: dict[str, Any] | None = None, **changes: Any) -> ModelRequest:
    """A request of the engine, with what is changed of it."""
    values: dict[str, Any] = {"context": (), "tools": (LOOKUP,), "feedback": "", **changes}
    return ModelRequest(
        run_id=uuid4(),
        agent="support",
        step=1,
        attempt=1,
        instructions="Be kind.",
        messages=messages or (HELLO,),
        output_schema=schema,
        **values,
    )


async def run(provider: HttpModel, *messages: ModelMessage, **changes: Any) -> list[ModelEvent]:
    """The events that a request to this server comes to."""
    return [event async for event in model_at(provider).stream(request(*messages, **changes))]
