"""What tests of the adapter share: its models at the servers of the wires, a request, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx2
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.models.openrouter import OpenRouterModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.google import GoogleProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.providers.openrouter import OpenRouterProvider

from agentcore import TextPart, tool
from agentcore.providers import ModelEvent, ModelMessage, ModelRequest, ToolSpec
from agentcore.providers.pydantic_ai import PydanticAIModel
from agentcore.testing.faults.http_model import HttpModel
from tests.integration.room import Room, make
from tests.wires import WIRES, Wire

LOOK = ToolSpec("look", "Look.", {"type": "object", "properties": {"n": {"type": "integer"}}})
HELLO = ModelMessage("user", "ada", (TextPart("Hello"),))


@tool(effect="pure")
def look(n: int = 0) -> str:
    """Look.

    Args:
        n: Where.
    """
    return f"seen {n}"


def _openrouter(name: str, base: str, key: str) -> Model:
    provider = OpenRouterProvider(api_key=key)
    provider.client.base_url = httpx2.URL(f"{base.rstrip('/')}/")
    return OpenRouterModel(name, provider=provider)


MODELS: dict[str, Callable[[str, str, str], Model]] = {
    "chat": lambda name, base, key: OpenAIChatModel(name, provider=OpenAIProvider(base_url=base, api_key=key)),
    "openrouter": _openrouter,
    "responses": lambda name, base, key: OpenAIResponsesModel(
        name, provider=OpenAIProvider(base_url=base, api_key=key)
    ),
    "anthropic": lambda name, base, key: AnthropicModel(name, provider=AnthropicProvider(base_url=base, api_key=key)),
    "gemini": lambda name, base, key: GoogleModel(name, provider=GoogleProvider(base_url=base, api_key=key)),
}


def model_at(wire: Wire, server: HttpModel, name: str = "", **options: Any) -> PydanticAIModel:
    """The adapter's model for a server of a wire."""
    return PydanticAIModel(MODELS[wire.name](name or wire.model, wire.base(server), wire.key), **options)


def room_at(wire: Wire, server: HttpModel, tools: Any = (look,), **options: Any) -> Room:
    """An agent whose model is at a server of a wire, and a thread to talk in."""
    return make(model_at(wire, server), list(tools), **options)


def request(*messages: ModelMessage, **changes: Any) -> ModelRequest:
    """A request of the engine, with what is changed of it."""
    values: dict[str, Any] = {"context": (), "tools": (LOOK,), "output_schema": None, **changes}
    return ModelRequest(
        run_id=uuid4(),
        agent="test",
        step=1,
        attempt=1,
        instructions="Be kind.",
        messages=messages or (HELLO,),
        **values,
    )


async def events_of(model: PydanticAIModel, *messages: ModelMessage, **changes: Any) -> list[ModelEvent]:
    """What a request comes to."""
    return [event async for event in model.stream(request(*messages, **changes))]


def chosen(events: list[ModelEvent], *kinds: type[Any]) -> list[Any]:
    """The events of these kinds."""
    return [event for event in events if isinstance(event, kinds)]


def said(events: list[ModelEvent]) -> str:
    """The text of the answer."""
    from agentcore.providers import TextDelta

    return "".join(event.text for event in chosen(events, TextDelta))


EVERY_WIRE = list(WIRES.values())
NAMES = list(WIRES)
