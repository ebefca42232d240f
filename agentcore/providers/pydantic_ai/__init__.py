"""Any model of pydantic-ai: by its name, "openai:gpt-5", or as an object, `PydanticAIModel(model)`."""

from __future__ import annotations

from .adapter import PydanticAIModel

__all__ = ["PydanticAIModel", "model"]


def model(name: str) -> PydanticAIModel:
    """Return the model of a name such as "openai:gpt-5"; raises `ModelNotConfigured` where it cannot be used here.

    The name is spelled as pydantic-ai does. Keys and base URLs come from the environment, as its SDK reads them.
    """
    return PydanticAIModel(name)
