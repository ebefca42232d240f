"""Which model answers, decided by the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass

from agentcore.exceptions import ModelNotConfigured
from agentcore.providers import AgentModel, model_of

from .offline import OfflineModel

OFFLINE = "offline"


@dataclass(frozen=True)
class Provider:
    """A provider that a variable chooses, and which of its models answers where `model_variable` names none."""

    variable: str
    name: str
    model_variable: str
    model: str


PROVIDERS = (
    # Only OpenAI itself has the Responses API for certain: what another address serves is asked as chat.
    Provider("OPENAI_BASE_URL", "openai-chat", "OPENAI_MODEL", "gpt-5-mini"),
    Provider("OPENAI_API_KEY", "openai", "OPENAI_MODEL", "gpt-5-mini"),
    Provider("OPENROUTER_API_KEY", "openrouter", "OPENROUTER_MODEL", "openai/gpt-5-mini"),
    Provider("ANTHROPIC_API_KEY", "anthropic", "ANTHROPIC_MODEL", "claude-haiku-5-5"),
)
"""The first whose variable is set is asked."""
READERS = frozenset({"openai", "openrouter", "anthropic", "google"})
"""Providers that are known to read PDF files and images."""


def choose_model() -> AgentModel | str:
    """Return the model that the environment chooses, as its name for pydantic-ai, or the offline one.

    `DEMO_MODEL` overrules the rest: `offline`, or any name such as "anthropic:claude-opus-5-5".
    """
    named = os.environ.get("DEMO_MODEL", "")
    if named and named != OFFLINE:
        return named
    found = None if named else next((one for one in PROVIDERS if os.environ.get(one.variable)), None)
    if found is None:
        return OfflineModel()
    return f"{found.name}:{os.environ.get(found.model_variable) or found.model}"


def require(model: AgentModel | str) -> None:
    """Raise `ModelNotConfigured`, which says what is missing and the way out, for a model that cannot be used here."""
    try:
        model_of(model)
    except ModelNotConfigured as error:
        raise ModelNotConfigured(f"{error} Or set DEMO_MODEL=offline to start without a provider.") from error


def is_offline(model: AgentModel | str) -> bool:
    """Whether no provider is asked."""
    return isinstance(model, OfflineModel)


def label_of(model: AgentModel | str) -> str:
    """Return what the page calls the model."""
    return model if isinstance(model, str) else "Offline model (no API key)"


def reads_files(model: AgentModel | str) -> bool:
    """Whether its provider reads PDF files and images; of a server that speaks chat nobody knows."""
    return isinstance(model, str) and model.partition(":")[0] in READERS
