"""An agent as the engine reads it: a frozen description, without behaviour of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel

from .context import ContextLoader, Instructions
from .conversion import Conversion
from .exceptions import UserError
from .providers.base import AgentModel, ToolSpec
from .tools import Tool
from .usage import Usage

OnBusy = Literal["queue", "reject", "interrupt", "parallel"]
ON_BUSY: tuple[OnBusy, ...] = ("queue", "reject", "interrupt", "parallel")
OnVersion = Literal["current", "strict"]
ON_VERSION: tuple[OnVersion, ...] = ("current", "strict")


@dataclass(frozen=True)
class Limits:
    """When a run must end; each limit has its own terminal code.

    They are counted in the rows, so they hold whichever workers drive the run, and are
    checked before a model call and before tool calls run: where one more model call is
    not allowed, the calls that the last one asked for are not run either. What a model
    call used that was lost with its worker is not known; it counts as much as the run's
    largest known one.
    """

    max_steps: int = 20
    """How many model calls it may make; one that failed and is made again counts once."""
    max_tokens: int | None = None
    """How many tokens (`Usage.total_tokens`) it may use before it makes no further model call."""
    max_seconds: float | None = None
    """How long it may be running: what it waits for (people, its turn in the thread, a retry) does not count."""
    max_calls: int | None = None
    """How many tool calls it may ask for, refused ones included; a step that asks for more runs none of its own."""
    max_repeats: int | None = None
    """How often it may ask for the same tool call, with the same arguments, in a row."""
    max_cost: float | None = None
    """What it may cost before it makes no further model call, in the money of `price`."""
    price: Callable[[Usage], float] | None = None
    """What tokens cost; needed for `max_cost`."""


@dataclass(frozen=True)
class AgentDefinition:
    """What an app declares about one agent."""

    name: str
    version: str
    model: AgentModel | Callable[[], AgentModel]
    instructions: Instructions
    tools: Mapping[str, Tool]
    context: tuple[ContextLoader, ...]
    output: Conversion | None
    limits: Limits
    on_busy: OnBusy
    recent_messages: int
    on_version: OnVersion = "current"

    def takes(self, version: str) -> bool:
        """Whether a run that was started on `version` of the agent may go on with this one."""
        return self.on_version == "current" or self.version == version

    def choose_model(self) -> AgentModel:
        """Return the model to call; a callable is asked anew for each step."""
        return self._models()

    @cached_property
    def _models(self) -> Callable[[], AgentModel]:
        model = self.model
        return (lambda: model) if isinstance(model, AgentModel) else model

    @cached_property
    def tool_specs(self) -> tuple[ToolSpec, ...]:
        """The tools as a model is told about them."""
        return tuple(ToolSpec(tool.name, tool.description, dict(tool.schema)) for tool in self.tools.values())

    @cached_property
    def output_schema(self) -> dict[str, Any] | None:
        """The JSON Schema of the structured output, if there is one."""
        return dict(self.output.schema) if self.output else None


def define(
    *,
    name: str,
    version: str,
    model: AgentModel | Callable[[], AgentModel],
    instructions: Instructions,
    tools: tuple[Tool, ...],
    context: tuple[ContextLoader, ...],
    output: type[BaseModel] | None,
    limits: Limits,
    on_busy: OnBusy,
    recent_messages: int,
    on_version: OnVersion = "current",
) -> AgentDefinition:
    """Return a checked definition; raises `UserError` for what cannot work."""
    if not name or len(name) > 64:
        raise UserError(f"Agent name {name!r}: use 1 to 64 characters; it is stored with every run.")
    if len(version) > 32:
        raise UserError(f"Agent {name}: use at most 32 characters for its version; it is stored with every run.")
    if on_busy not in ON_BUSY:
        raise UserError(f"Agent {name}: on_busy must be one of {', '.join(ON_BUSY)}.")
    if on_version not in ON_VERSION:
        raise UserError(f"Agent {name}: on_version must be one of {', '.join(ON_VERSION)}.")
    if limits.max_cost is not None and limits.price is None:
        raise UserError(f"Agent {name}: max_cost needs a price, which says what tokens cost.")
    by_name: dict[str, Tool] = {}
    for item in tools:
        if not isinstance(item, Tool):
            raise UserError(f"Agent {name}: {item!r} is not a tool; decorate the function with @tool.")
        if item.name in by_name:
            raise UserError(f"Agent {name}: two tools are called {item.name}.")
        by_name[item.name] = item
    return AgentDefinition(
        name=name,
        version=version,
        model=model,
        instructions=instructions,
        tools=by_name,
        context=context,
        output=None if output is None else Conversion.to(output, f"Agent {name}, output {output.__name__}"),
        limits=limits,
        on_busy=on_busy,
        recent_messages=recent_messages,
        on_version=on_version,
    )
