"""What an agent may leave to a function of the run: its model, its tools, and the settings of its model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..exceptions import UserError
from . import declared
from .context import RunContext
from .model import AgentModel
from .tool import Tool

Models = AgentModel | str | Sequence[AgentModel | str]
"""A model, the name of one ("openai:gpt-5"), or several: each is asked where the one before has failed in silence."""
ModelChoice = Models | Callable[[RunContext], Models | Awaitable[Models]]

ModelSettings = Mapping[str, Any]
SettingsChoice = ModelSettings | Callable[[RunContext], ModelSettings | Awaitable[ModelSettings]]

Tools = Iterable[Tool]


@dataclass(frozen=True)
class ToolSource:
    """A function of the run that gives tools, asked before each step: those of a tenant, or of a server.

    A call that waits for a person is run by the tool that the source gives under its name then.
    """

    function: Callable[[RunContext], Tools | Awaitable[Tools]]

    def __post_init__(self) -> None:
        """Raise `UserError` for what is no function of a run."""
        declared.function("ToolSource", self.function, "about")

    def read(self, given: Any) -> tuple[Tool, ...]:
        """Return what the function gave as tools; None is none. Raises `UserError` for anything else."""
        found = () if given is None else declared.listed(f"What {self} gave", given, "tools")
        for item in found:
            if not isinstance(item, Tool):
                raise UserError(f"{self} gave {declared.shown(item)}, which is no tool. Decorate it with @tool.")
        return found

    def __str__(self) -> str:
        return f"ToolSource({declared.shown(self.function)})"


def chooses_models(value: Any) -> bool:
    """Whether it is a function of the run, and no model that can also be called."""
    is_like_a_model = any(hasattr(value, name) for name in ("name", "provider", "stream"))
    return callable(value) and not isinstance(value, type) and not is_like_a_model


def models_of(what: str, given: Any) -> tuple[AgentModel | str, ...]:
    """Return models and names of models in the order they are asked; raises `UserError` for anything else."""
    found = tuple(given) if isinstance(given, list | tuple) else (given,)
    if not found:
        raise UserError(f"{what} is an empty list: give a model at least.")
    for model in found:
        declared.model(what, model)
    return found


def settings_of(what: str, given: Any) -> dict[str, Any]:
    """Return settings of a model as a dict of their own; raises `UserError` for what is none, None is none."""
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise UserError(f'{what} is {declared.shown(given)}: write a dict such as {{"temperature": 0.2}}.')
    return dict(given)
