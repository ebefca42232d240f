"""Models by name: "openai:gpt-5", as pydantic-ai spells them, where its extra is installed."""

from __future__ import annotations

from functools import lru_cache

from ..declaration.model import AgentModel
from ..exceptions import ModelNotConfigured

MISSING = (
    "The model {name} needs pydantic-ai, which is not installed. Install it with pip install "
    '"django-agentcore[pydantic-ai]", or give the agent a model object.'
)


def model_of(given: AgentModel | str) -> AgentModel:
    """Return a model as it is, or the one of a name; raises `ModelNotConfigured` where that cannot be made here."""
    return _named(given) if isinstance(given, str) else given


@lru_cache(maxsize=256)
def _named(name: str) -> AgentModel:
    try:
        from . import pydantic_ai
    except ImportError as error:
        raise ModelNotConfigured(MISSING.format(name=name)) from error
    return pydantic_ai.model(name)
