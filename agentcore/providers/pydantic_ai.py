"""Any model of pydantic-ai."""

from __future__ import annotations

from ..declaration.model import AgentModel


def model(name: str) -> AgentModel:
    """Return the model of a name such as "openai:gpt-5"; raises `ModelNotConfigured` where it cannot be used here."""
    raise NotImplementedError(name)
