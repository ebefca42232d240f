"""Name → agent definition, filled by every installed app's `agents.py`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..exceptions import DuplicateAgent, UnknownAgent
from .agent import AgentDefinition

_agents: dict[str, AgentDefinition] = {}


def register(definition: AgentDefinition) -> None:
    """Add an agent; raises `DuplicateAgent` if the name is taken."""
    if definition.name in _agents:
        raise DuplicateAgent(f"An agent called {definition.name!r} is registered already; names are stored with runs.")
    _agents[definition.name] = definition


def replace(definition: AgentDefinition) -> None:
    """Put another description in the place of the agent of that name: for tests, in an `isolated()` block."""
    _agents[definition.name] = definition


def get(name: str) -> AgentDefinition:
    """Return the agent; raises `UnknownAgent` if no app declares it."""
    try:
        return _agents[name]
    except KeyError as error:
        raise UnknownAgent(f"No agent is called {name!r}. Declare it in the agents.py of an installed app.") from error


def names() -> tuple[str, ...]:
    """Return the registered names, sorted."""
    return tuple(sorted(_agents))


@contextmanager
def isolated() -> Iterator[None]:
    """Undo, at the end of the block, what was registered in it: for tests."""
    before = dict(_agents)
    try:
        yield
    finally:
        _agents.clear()
        _agents.update(before)
