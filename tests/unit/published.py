"""The published client of each wire: pydantic-ai's own model class, on the provider's own SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, ToolReturnPart, UserPromptPart
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.models.openrouter import OpenRouterModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.google import GoogleProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.providers.openrouter import OpenRouterProvider
from pydantic_ai.tools import ToolDefinition

from agentcore.testing.faults.http_model import HttpModel
from tests.wires import Wire

LOOK = ToolDefinition(
    name="look",
    description="Look it up.",
    parameters_json_schema={
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    },
)
WITH_LOOK = ModelRequestParameters(function_tools=[LOOK])
SETTINGS: Any = {"timeout": 10}


@asynccontextmanager
async def published(wire: Wire, server: HttpModel, key: str | None = None) -> AsyncIterator[Model[Any]]:
    """Yield pydantic-ai's model for a server of a wire, without retries, and close its client after."""
    async with httpx2.AsyncClient(timeout=10) as http:
        named: Any = {"base_url": wire.base(server), "api_key": wire.key if key is None else key}
        client: Any = {**named, "max_retries": 0, "http_client": http}
        match wire.name:
            case "chat":
                yield OpenAIChatModel(wire.model, provider=OpenAIProvider(openai_client=AsyncOpenAI(**client)))
            case "openrouter":
                yield OpenRouterModel(wire.model, provider=OpenRouterProvider(openai_client=AsyncOpenAI(**client)))
            case "responses":
                yield OpenAIResponsesModel(wire.model, provider=OpenAIProvider(openai_client=AsyncOpenAI(**client)))
            case "anthropic":
                yield AnthropicModel(wire.model, provider=AnthropicProvider(anthropic_client=AsyncAnthropic(**client)))
            case _:
                yield GoogleModel(wire.model, provider=GoogleProvider(**named, http_client=http))


async def hear(
    model: Model[Any],
    messages: Sequence[ModelMessage] | str = "Go",
    parameters: ModelRequestParameters = WITH_LOOK,
    **settings: Any,
) -> ModelResponse:
    """Ask the model and return its answer, read to the end of the stream."""
    asked: list[ModelMessage] = [prompt(messages)] if isinstance(messages, str) else list(messages)
    options: Any = {**SETTINGS, **settings}
    async with model.request_stream(asked, options, parameters) as stream:
        async for _ in stream:
            pass
        return stream.get()


def prompt(text: str) -> ModelRequest:
    """Return what the user says."""
    return ModelRequest(parts=[UserPromptPart(content=text)])


def results(answer: ModelResponse, content: str = "found") -> ModelRequest:
    """Return a result for each call in an answer."""
    calls = answer.tool_calls
    return ModelRequest(parts=[ToolReturnPart(call.tool_name, content, call.tool_call_id) for call in calls])
