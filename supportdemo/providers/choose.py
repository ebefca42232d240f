"""Which model answers, decided by the environment."""

from __future__ import annotations

import os

from agentcore import RunContext
from agentcore.providers import AgentModel

from .offline import OfflineModel

OPENAI_DEFAULT = "gpt-4o-mini"
OPENROUTER_URL = "https://openrouter.ai/api/v1"
OPENROUTER_DEFAULT = "openai/gpt-4o-mini"


def choose_model(about: RunContext | None = None) -> AgentModel:
    """Return the model for the keys in the environment; `DEMO_MODEL=offline` overrules them.

    `OPENAI_API_KEY` or `OPENROUTER_API_KEY` choose the provider, `OPENAI_BASE_URL`
    another compatible one, `OPENAI_MODEL` the model.
    """
    openai_key = os.environ.get("OPENAI_API_KEY", "")
    openrouter_key = os.environ.get("OPENROUTER_API_KEY", "")
    if os.environ.get("DEMO_MODEL") == "offline" or not (openai_key or openrouter_key):
        return OfflineModel()
    from .openai import OpenAIModel  # only with a key is the SDK needed

    base_url = os.environ.get("OPENAI_BASE_URL") or None
    name = os.environ.get("OPENAI_MODEL", "")
    if openai_key:
        return OpenAIModel(name or OPENAI_DEFAULT, api_key=openai_key, base_url=base_url, provider="openai")
    return OpenAIModel(
        name or OPENROUTER_DEFAULT, api_key=openrouter_key, base_url=base_url or OPENROUTER_URL, provider="openrouter"
    )


def is_offline(model: AgentModel) -> bool:
    """Whether no provider is asked."""
    return isinstance(model, OfflineModel)


def label_of(model: AgentModel) -> str:
    """Return what the page calls the model."""
    return "Offline model (no API key)" if is_offline(model) else model.name
