"""An agent of the project, answering from a script instead of from its model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from ..declaration import registry
from ..declaration.agent import AgentDefinition
from .model import ScriptedModel, Turn


class Declared(Protocol):
    """What a declared agent has: `agentcore.Agent`."""

    @property
    def definition(self) -> AgentDefinition:
        """The agent as the engine reads it."""


@contextmanager
def scripted(agent: Declared, *turns: Turn) -> Iterator[ScriptedModel]:
    """Give a declared agent a scripted model while the block lasts, in this process; its own is never asked.

    Raises `AssertionError` where the block ends and a turn was never asked for.
    """
    model = ScriptedModel(turns)
    with registry.isolated():
        registry.replace(dataclasses.replace(agent.definition, model=model))
        yield model
    model.assert_finished()
