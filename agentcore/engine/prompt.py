"""What a model is asked: instructions, context blocks, and the thread as far as this run may see it."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Sequence
from typing import Any

from ..context import ContextBlock, ContextLoader, LoaderContext
from ..definition import AgentDefinition
from ..exceptions import RunError
from ..models import Message, Run
from ..parts import Part, ToolCallPart, ToolResultPart
from ..providers.base import ModelMessage, ModelRequest
from .runtime import Runtime
from .snapshot import Snapshot

logger = logging.getLogger("agentcore.engine")


def loader_context(run: Run) -> LoaderContext:
    """Return what loaders and instructions may look at."""
    return LoaderContext(
        run_id=run.pk,
        thread_id=run.thread_id,
        agent=run.agent,
        user=run.user,
        prompt=run.prompt.text if run.prompt else "",
        metadata=run.metadata,
    )


async def load_context(definition: AgentDefinition, run: Run, runtime: Runtime) -> tuple[ContextBlock, ...]:
    """Run the agent's loaders in order; raises `RunError` naming the loader that failed."""
    blocks: list[ContextBlock] = []
    about = loader_context(run)
    for loader in definition.context:
        try:
            blocks.extend(await _call(loader, about, runtime))
        except Exception as error:
            name = getattr(loader, "__name__", repr(loader))
            logger.exception("context loader %s failed", name, extra={"run_id": str(run.pk), "attempt": run.attempt})
            raise RunError(f"The context loader {name} failed.", code="context_failed") from error
    return tuple(blocks)


async def build(
    definition: AgentDefinition, snapshot: Snapshot, context: Sequence[ContextBlock], runtime: Runtime
) -> ModelRequest:
    """Return the request of the next model step."""
    run = snapshot.run
    instructions = definition.instructions
    if callable(instructions):
        instructions = await _call(instructions, loader_context(run), runtime)
    messages = await runtime.db(history, run, definition.recent_messages)
    return ModelRequest(
        run_id=run.pk,
        agent=definition.name,
        step=snapshot.next_step,
        attempt=run.attempt,
        instructions=instructions,
        context=tuple(context),
        messages=messages,
        tools=definition.tool_specs(),
        output_schema=definition.output_schema(),
        feedback=snapshot.feedback,
    )


def history(run: Run, recent: int) -> tuple[ModelMessage, ...]:
    """Return the newest messages up to this run's turn, oldest first.

    Only complete messages; no later turn; trimmed at the start of a turn; and no
    call without its result, nor a result without its call.
    """
    newest = list(
        Message.objects.filter(thread_id=run.thread_id, order__lte=run.order)
        .complete()
        .order_by("-order", "-step_order")[: recent + 1]
    )
    if len(newest) > recent:
        cut = newest[-1].order
        newest = [message for message in newest if message.order != cut] or newest[:-1]
    said = [ModelMessage(item.author_kind, item.author_name, item.parts) for item in reversed(newest)]
    return _paired(said)


def _paired(messages: Iterable[ModelMessage]) -> tuple[ModelMessage, ...]:
    kept = list(messages)
    calls = {part.call_id for message in kept for part in message.parts if isinstance(part, ToolCallPart)}
    results = {part.call_id for message in kept for part in message.parts if isinstance(part, ToolResultPart)}
    both = calls & results

    def whole(part: Part) -> bool:
        return not isinstance(part, ToolCallPart | ToolResultPart) or part.call_id in both

    trimmed = [ModelMessage(item.author, item.name, tuple(filter(whole, item.parts))) for item in kept]
    return tuple(message for message in trimmed if message.parts)


async def _call(function: ContextLoader | Any, about: LoaderContext, runtime: Runtime) -> Any:
    """Call an app's function, awaited if it is async, in a thread if it is not."""
    if inspect.iscoroutinefunction(function):
        return await function(about)
    return await runtime.app(lambda: function(about))
