"""The adapter under test, a request for it, and rooms whose agents think on the scripted HTTP model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any
from uuid import UUID

from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from agentcore import TextPart, Tool
from agentcore.exceptions import ModelError
from agentcore.providers import ModelEvent, ModelMessage, ModelRequest, TextEnded, UsageReported
from agentcore.providers.pydantic_ai import PydanticAIModel
from agentcore.testing import HttpModel
from tests.integration.room import Room, make

KEY = "sk-canary-5ecret"
SAID = ModelMessage("user", "ada", (TextPart("Go"),))


def adapter(model: HttpModel, url: str = "") -> PydanticAIModel:
    """The adapter for every provider, pointed at the scripted model."""
    provider = OpenAIProvider(base_url=url or model.url, api_key=KEY)
    return PydanticAIModel(OpenAIChatModel("test-1", provider=provider))


def request() -> ModelRequest:
    """A plain request, as the engine makes it."""
    return ModelRequest(UUID(int=1), "test", 1, 1, "Be kind.", (), (SAID,), (), None)


async def ask(model: HttpModel, url: str = "") -> AsyncIterator[ModelEvent]:
    """The events of one model call that say something: not what was counted, nor where a part ends."""
    async with aclosing(adapter(model, url).stream(request())) as events:
        async for event in events:
            if not isinstance(event, UsageReported | TextEnded):
                yield event


async def heard(model: HttpModel, url: str = "") -> tuple[list[ModelEvent], ModelError | None]:
    """What one model call brought, and how it broke off, if it did."""
    events: list[ModelEvent] = []
    try:
        async for event in ask(model, url):
            events.append(event)
    except ModelError as error:
        return events, error
    return events, None


def thinking(model: HttpModel, tools: Sequence[Tool] = (), **options: Any) -> Room:
    """A room whose agent thinks on the scripted model."""
    return make(adapter(model), tools, **options)
