"""An agent as the engine reads it: a frozen description, without behaviour of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, Literal

from pydantic import BaseModel

from ..exceptions import UserError
from ..values.usage import Usage
from . import declared
from .choice import ModelChoice, SettingsChoice, ToolSource, chooses_models, models_of, settings_of
from .context import ContextLoader, Instructions
from .conversion import Conversion
from .files import Files
from .guard import Guard
from .model import AgentModel, ToolSpec
from .tool import Tool

GuardedPlace = Literal["before_model", "after_answer", "before_tool"]
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


@dataclass(frozen=True, kw_only=True)
class AgentDefinition:
    """What an app declares about one agent; raises `UserError` for what cannot work."""

    name: str
    """What its runs are stored under: up to 64 characters, and no other agent's."""
    model: ModelChoice
    """The model, the name of one ("openai:gpt-5"), several to be asked in turn, or a function that chooses for a step.

    Of several, the next is asked where one has failed before it said anything.
    """
    version: str = "1"
    """Up to 32 characters, stored with its runs."""
    instructions: Instructions = ""
    """Text, "" for none, or a function of the run."""
    model_settings: SettingsChoice = field(default_factory=dict)
    """What its model is asked with beside the request, such as `{"temperature": 0.2}`, or a function of the run."""
    tools: Sequence[Tool | ToolSource] = ()
    """Functions under `@tool`, each with a name of its own, and sources of tools that are chosen by run."""
    context: Sequence[ContextLoader] = ()
    """Functions that load blocks for one run."""
    files: Files | None = None
    """The application's store of files, for messages that name some and models that make some."""
    guards: Sequence[Guard] = ()
    """What judges its model calls, answers and tool calls, in this order: the first that refuses decides."""
    output: type[BaseModel] | None = None
    """The class that an answer must fit; None for text."""
    limits: Limits = Limits()
    """When a run must end."""
    on_busy: OnBusy = "queue"
    """What a message to a busy thread does: it waits, is rejected, interrupts, or runs in parallel."""
    recent_messages: int = 100
    """How many messages the model reads at most, in whole turns; its own turn it reads always."""
    on_version: OnVersion = "current"
    """On which version a run that was started on another may go on: the current one, or strictly its own."""

    by_run: frozenset[str] = field(default=frozenset(), init=False)
    """The names of the tools that its sources have given for a step: no other process knows these tools."""

    def __post_init__(self) -> None:
        declared.text("Agent name", self.name, 64)  # as long as the columns that a run keeps them in
        agent = f"Agent {self.name}"
        declared.text(f"{agent}: version", self.version, 32)
        if self.model_chooser is None:
            models_of(f"{agent}: model", self.model)
        else:
            declared.function(f"{agent}: model", self.model, "about")
        if callable(self.model_settings):
            declared.function(f"{agent}: model_settings", self.model_settings, "about")
        else:
            object.__setattr__(self, "model_settings", settings_of(f"{agent}: model_settings", self.model_settings))
        if not isinstance(self.instructions, str):
            declared.function(f'{agent}: instructions (text, "" for none, or a function)', self.instructions, "about")
        declared.one_of(f"{agent}: on_busy", self.on_busy, ON_BUSY)
        declared.one_of(f"{agent}: on_version", self.on_version, ON_VERSION)
        declared.whole(f"{agent}: recent_messages", self.recent_messages, 0)
        # Copied, for a list that is changed later would change what was checked.
        object.__setattr__(
            self, "tools", declared.listed(f"{agent}: tools", self.tools, "functions decorated with @tool")
        )
        object.__setattr__(
            self, "context", declared.listed(f"{agent}: context", self.context, "functions that load context blocks")
        )
        for loader in self.context:
            declared.function(f"{agent}: in context", loader, "about")
        if self.files is not None and not isinstance(self.files, Files):
            raise UserError(f"{agent}: files is {declared.shown(self.files)}: write files=Files(load=…, save=…).")
        object.__setattr__(self, "guards", declared.listed(f"{agent}: guards", self.guards, "Guard(…)"))
        for guard in self.guards:
            if not isinstance(guard, Guard):
                raise UserError(f"{agent}: in guards is {declared.shown(guard)}: write Guard(before_tool=…), say.")
        if not isinstance(self.limits, Limits):
            raise UserError(f"{agent}: limits is {declared.shown(self.limits)}: write limits=Limits(max_steps=…).")
        if self.limits.max_cost is not None and self.limits.price is None:
            raise UserError(f"{agent}: max_cost needs a price, which says what tokens cost.")
        _ = self.tools_by_name, self.conversion  # made now, for they may refuse what is declared

    def accepts_version(self, version: str) -> bool:
        """Whether a run that was started on `version` of the agent may go on with this one."""
        return self.on_version == "current" or self.version == version

    @cached_property
    def model_chooser(self) -> Callable[..., Any] | None:
        """The function that chooses models, anew for each step; None where they are the same for all."""
        return self.model if chooses_models(self.model) else None  # type: ignore[return-value]

    def models(self, chosen: Any) -> tuple[AgentModel | str, ...]:
        """Return the models that were declared or chosen; raises `UserError` where that is none."""
        by = f", which {declared.shown(self.model_chooser)} chose," if self.model_chooser else ""
        return models_of(f"Agent {self.name}: the model{by}", chosen)

    def guarding(self, place: GuardedPlace) -> list[Callable[..., Any]]:
        """Return the functions of its guards that judge there, in their order."""
        functions = (getattr(guard, place) for guard in self.guards)
        return [function for function in functions if function is not None]

    @cached_property
    def tool_sources(self) -> tuple[ToolSource, ...]:
        """What gives it more tools, by run."""
        return tuple(item for item in self.tools if isinstance(item, ToolSource))

    def with_tools(self, found: Iterable[Tool]) -> AgentDefinition:
        """Return the agent with what its sources gave as its tools too; raises `UserError` for two of a name."""
        given = tuple(found)
        made = replace(self, tools=(*self.tools, *given))
        object.__setattr__(made, "by_run", frozenset(tool.name for tool in given))
        return made

    @cached_property
    def tools_by_name(self) -> dict[str, Tool]:
        """The tools under their names; raises `UserError` for what is no tool, and for a name that two of them have."""
        by_name: dict[str, Tool] = {}
        for item in self.tools:
            if isinstance(item, ToolSource):
                continue
            if not isinstance(item, Tool):
                said = f"{declared.shown(item)} is not a tool; decorate the function with @tool."
                raise UserError(f"Agent {self.name}: {said}")
            if item.name in by_name:
                raise UserError(f"Agent {self.name}: two tools are called {item.name}.")
            by_name[item.name] = item
        return by_name

    @cached_property
    def tool_specs(self) -> tuple[ToolSpec, ...]:
        """The tools as a model is told about them."""
        return tuple(ToolSpec(tool.name, tool.description, dict(tool.schema)) for tool in self.tools_by_name.values())

    @cached_property
    def conversion(self) -> Conversion | None:
        """How a structured output is read, if there is one; raises `UserError` for what is no class of one."""
        output = self.output
        if output is None:
            return None
        if not isinstance(output, type) or not issubclass(output, BaseModel) or output is BaseModel:
            raise UserError(
                f"Agent {self.name}: output is {declared.shown(output)}: write a subclass of pydantic's BaseModel, "
                "with a field for each thing it says."
            )
        return _conversion(output, f"Agent {self.name}, output {output.__name__}")

    @cached_property
    def output_schema(self) -> dict[str, Any] | None:
        """The JSON Schema of the structured output, if there is one."""
        return dict(self.conversion.schema) if self.conversion else None


@lru_cache(maxsize=256)
def _conversion(output: type[BaseModel], what: str) -> Conversion:
    """Return how an output is read: an agent whose tools are chosen by run is described anew for each step."""
    return Conversion.to(output, what)
