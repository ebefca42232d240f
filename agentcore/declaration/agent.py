"""An agent as the engine reads it: a frozen description, without behaviour of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel

from ..exceptions import UserError
from ..values.usage import Usage
from . import declared
from .context import ContextLoader, Instructions
from .conversion import Conversion
from .model import AgentModel, ToolSpec
from .tool import Tool

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

    def __post_init__(self) -> None:
        """Raise `UserError` for what is no limit."""
        least = {"max_steps": 1, "max_tokens": 1, "max_calls": 0, "max_repeats": 1}
        for name, lowest in least.items():
            value = getattr(self, name)
            if value is not None or name == "max_steps":
                declared.whole(f"Limits: {name}", value, lowest)
        for name in ("max_seconds", "max_cost"):
            if getattr(self, name) is not None:
                declared.positive(f"Limits: {name}", getattr(self, name))
        if self.price is not None:
            declared.function("Limits: price", self.price, "usage")


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

    @cached_property
    def model_chooser(self) -> Callable[[], Any] | None:
        """The function that chooses a model, anew for each step; None where there is one model for all."""
        return None if isinstance(self.model, AgentModel) else self.model

    def as_chosen(self, model: Any) -> AgentModel:
        """Return what the application's function chose; raises `UserError` where that is no model."""
        if not isinstance(model, AgentModel) or isinstance(model, type):
            chosen = f"{declared.shown(self.model)} chose {declared.shown(model)}"
            raise UserError(f"Agent {self.name}: {chosen}, which is no model. Have it return a model object.")
        return model

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
    tools: Iterable[Tool],
    context: Iterable[ContextLoader],
    output: type[BaseModel] | None,
    limits: Limits | None,
    on_busy: OnBusy,
    recent_messages: int,
    on_version: OnVersion = "current",
) -> AgentDefinition:
    """Return a checked definition; raises `UserError` for what cannot work."""
    declared.text("Agent name", name, 64)  # as long as the columns that a run keeps them in
    agent = f"Agent {name}"
    declared.text(f"{agent}: version", version, 32)
    declared.model(f"{agent}: model", model)
    if not isinstance(instructions, str):
        declared.function(f'{agent}: instructions (text, "" for none, or a function)', instructions, "about")
    declared.one_of(f"{agent}: on_busy", on_busy, ON_BUSY)
    declared.one_of(f"{agent}: on_version", on_version, ON_VERSION)
    declared.whole(f"{agent}: recent_messages", recent_messages, 0)
    loaders = declared.listed(f"{agent}: context", context, "functions that load context blocks")
    for loader in loaders:
        declared.function(f"{agent}: in context", loader, "about")
    limits = Limits() if limits is None else limits
    if not isinstance(limits, Limits):
        raise UserError(f"{agent}: limits is {declared.shown(limits)}: write limits=Limits(max_steps=…).")
    if limits.max_cost is not None and limits.price is None:
        raise UserError(f"{agent}: max_cost needs a price, which says what tokens cost.")
    return AgentDefinition(
        name=name,
        version=version,
        model=model,
        instructions=instructions,
        tools=_by_name(agent, tools),
        context=loaders,
        output=_output(agent, output),
        limits=limits,
        on_busy=on_busy,
        recent_messages=recent_messages,
        on_version=on_version,
    )


def _by_name(agent: str, tools: Iterable[Tool]) -> dict[str, Tool]:
    by_name: dict[str, Tool] = {}
    for item in declared.listed(f"{agent}: tools", tools, "functions decorated with @tool"):
        if not isinstance(item, Tool):
            raise UserError(f"{agent}: {declared.shown(item)} is not a tool; decorate the function with @tool.")
        if item.name in by_name:
            raise UserError(f"{agent}: two tools are called {item.name}.")
        by_name[item.name] = item
    return by_name


def _output(agent: str, output: type[BaseModel] | None) -> Conversion | None:
    if output is None:
        return None
    if not isinstance(output, type) or not issubclass(output, BaseModel) or output is BaseModel:
        raise UserError(
            f"{agent}: output is {declared.shown(output)}: write a subclass of pydantic's BaseModel, with a field for "
            "each thing it says."
        )
    return Conversion.to(output, f"{agent}, output {output.__name__}")
