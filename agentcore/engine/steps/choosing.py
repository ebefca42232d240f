"""What an agent leaves to functions of the run, asked before a step: its tools, its models and their settings."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from ...declaration.agent import AgentDefinition
from ...declaration.choice import settings_of
from ...declaration.model import AgentModel
from ...declaration.tool import Tool
from ...exceptions import ModelError, ModelNotConfigured
from ...providers.named import is_made, model_of
from ...values.functions import name_of
from ...values.logextra import log_extra
from .. import application
from ..application import TRY_AGAIN, Hook
from ..runtime import Runtime
from ..snapshot import Snapshot

logger = logging.getLogger("agentcore.engine")

T = TypeVar("T")

NO_TOOLS = f"What the agent may use could not be found out. {TRY_AGAIN}"
NO_MODEL = ModelError.SENTENCES["provider_error"]


def asks_the_application(definition: AgentDefinition, state: Snapshot) -> bool:
    """Whether the application's code runs before the next model call: what is staged is committed first."""
    load = definition.files.load if definition.files else None
    functions = (definition.instructions, definition.model_chooser, definition.model_settings, load)
    loads = state.context is None and bool(definition.context)
    return loads or any(map(callable, functions)) or bool(definition.guarding("before_model"))


async def with_tools(definition: AgentDefinition, state: Snapshot, runtime: Runtime) -> AgentDefinition:
    """Return the agent with the tools that its sources give this run now; itself where it has no source."""
    if not definition.tool_sources:
        return definition
    found: list[Tool] = []
    for source in definition.tool_sources:
        hook = Hook(f"The source of tools {name_of(source.function)}", code="tools_failed", message=NO_TOOLS)
        found += await application.ask(hook, state.run, runtime, source.function, state.about, read=source.read)
    return definition.with_tools(found)


async def models(definition: AgentDefinition, state: Snapshot, runtime: Runtime) -> tuple[AgentModel, ...]:
    """Return the models to ask in this step, first to last.

    A named model that cannot be used here is left out, and the log says so. Raises `ModelNotConfigured` where none is
    left.
    """
    declared: Any = definition.model
    if definition.model_chooser is not None:
        declared = await _choose("model", definition.model_chooser, definition.models, state, runtime)
    made: list[AgentModel] = []
    missing: list[ModelNotConfigured] = []
    for model in definition.models(declared):
        try:
            made.append(await _made(model, runtime))
        except ModelNotConfigured as error:
            missing.append(error)
    if not made:
        raise missing[0]
    for absent in missing:
        logger.warning("%s", absent.message, extra=log_extra(absent.code, state.run.pk, state.run.attempt))
    return tuple(made)


async def _made(model: AgentModel | str, runtime: Runtime) -> AgentModel:
    """Return a model that may only be named; what has to be loaded for it is loaded off the event loop."""
    return model_of(model) if is_made(model) else await runtime.threads.run(lambda: model_of(model))


async def settings(definition: AgentDefinition, state: Snapshot, runtime: Runtime) -> dict[str, Any]:
    """Return what the model of this step is asked with beside the request."""
    given = definition.model_settings
    if callable(given):
        read = partial(settings_of, f"What {name_of(given)} gave as settings")
        return await _choose("model's settings", given, read, state, runtime)
    return dict(given)


async def _choose(
    what: str, function: Callable[..., Any], read: Callable[[Any], T], state: Snapshot, runtime: Runtime
) -> T:
    chooses = f"The function {name_of(function)}, which chooses the {what},"
    hook = Hook(chooses, code="model_failed", message=NO_MODEL)
    return await application.ask(hook, state.run, runtime, function, state.about, read=read)
