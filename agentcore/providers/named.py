"""Models by name: "openai:gpt-5", as pydantic-ai spells them, where its extra is installed."""

from __future__ import annotations

from collections.abc import Iterator

from ..declaration import registry
from ..declaration.model import AgentModel
from ..exceptions import ModelNotConfigured

_made: dict[str, AgentModel] = {}
MISSING = (
    "The model {name} needs pydantic-ai, which is not installed. Install it with pip install "
    '"django-agentcore[pydantic-ai]", or give the agent a model object.'
)


def model_of(given: AgentModel | str) -> AgentModel:
    """Return a model as it is, or the one of a name; raises `ModelNotConfigured` where that cannot be made here."""
    if not isinstance(given, str):
        return given
    if given not in _made:
        _made[given] = _make(given)
    return _made[given]


def is_made(given: AgentModel | str) -> bool:
    """Whether a model is at hand; the SDK of one that is only named may be yet to be loaded, which takes seconds."""
    return not isinstance(given, str) or given in _made


def unusable() -> Iterator[tuple[str, str]]:
    """Yield each declared agent with a model by name that cannot be used here, and what is missing; asks nobody.

    What a function of the run will choose is not known before the run.
    """
    for agent in registry.names():
        definition = registry.get(agent)
        if definition.model_chooser is not None:
            continue
        for given in definition.models(definition.model):
            try:
                model_of(given)
            except ModelNotConfigured as error:
                yield agent, error.message


def _make(name: str) -> AgentModel:
    try:
        from .pydantic_ai import model
    except ImportError as error:
        raise ModelNotConfigured(MISSING.format(name=name)) from error
    return model(name)
