"""What a model is asked: instructions, context blocks, and the thread as far as this run may see it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache, partial
from typing import Any

from ...conf import get_settings
from ...declaration.agent import AgentDefinition
from ...declaration.context import ContextBlock
from ...declaration.model import AgentModel, ModelMessage, ModelRequest, origin_of
from ...exceptions import RunError
from ...models import Message, Run, Step, Thread, ToolCall
from ...models.message import MessageQuerySet
from ...models.tool_call import TOLD
from ...values import jsontext, parts
from ...values.functions import kind_of, name_of
from ...values.parts import Part
from .. import application
from ..application import TRY_AGAIN, Hook
from ..runtime import Runtime
from ..snapshot import ANSWER_NOT_ACCEPTED, Snapshot
from . import choosing, files
from .conversation import shown

CONTEXT_FAILED = f"What the agent has to know could not be gathered. {TRY_AGAIN}"
CONTEXT_TOO_LARGE = "There is more to know than the agent may be given. Attach less, or ask about less at once."
NOT_TOLD = [f"tool_call__{field.name}" for field in ToolCall._meta.concrete_fields if field.name not in TOLD]
NOT_SHOWN = "Your last answer was not accepted, and nobody has seen it. Answer again. {why}"
LONGEST_SHOWN = 4000  # characters of a refused output that its repair is shown
FIRST_TURN = Thread._meta.get_field("next_order").get_default()


async def load_context(definition: AgentDefinition, state: Snapshot, runtime: Runtime) -> tuple[ContextBlock, ...]:
    """Run the agent's loaders in order; raises `RunError` naming the loader that failed."""
    blocks: list[ContextBlock] = []
    for loader in definition.context:
        blocks.extend(await _ask(loader, "context loader", state, runtime, read=partial(_blocks, loader)))
    size, limit = jsontext.size([block.to_json() for block in blocks]), get_settings().context_limit
    if size > limit:
        detail = f"The context blocks take {size} bytes; CONTEXT_LIMIT is {limit}."
        raise RunError(CONTEXT_TOO_LARGE, code="context_too_large", detail=detail)
    # As they are stored: every later step reads them back, and must be asked the same.
    return tuple(ContextBlock.from_json(block.to_json()) for block in blocks)


def _blocks(loader: Any, loaded: Any) -> list[ContextBlock]:
    """Return what a loader gave as blocks; None is none."""
    blocks = [] if loaded is None else list(loaded) if isinstance(loaded, Iterable) else [loaded]
    for block in blocks:
        if not isinstance(block, ContextBlock):
            raise _unfit("context loader", loader, block, "a list of ContextBlock")
    return blocks


def _text(function: Any, given: Any) -> str:
    if not isinstance(given, str):
        raise _unfit("instructions", function, given, "text")
    return given


def _unfit(what: str, function: Any, given: Any, wanted: str) -> RunError:
    kind = kind_of(given)
    detail = f"The {what} {name_of(function)} returned a {kind}. Have it return {wanted}."
    return RunError(CONTEXT_FAILED, code="context_failed", detail=detail)


async def build(definition: AgentDefinition, snapshot: Snapshot, runtime: Runtime) -> ModelRequest:
    """Return the request of the next model step; the snapshot holds its context and its history."""
    run = snapshot.run
    instructions = definition.instructions
    if callable(instructions):
        read = partial(_text, instructions)
        instructions = await _ask(instructions, "instructions", snapshot, runtime, read=read)
    # Its own answer, whose output alone is to be mended; nobody else reads it.
    own = refused_text(snapshot.last_model_step)
    refused = [ModelMessage("agent", definition.name, own)] if own else []
    history = snapshot.history or ()
    messages = (*shown(history, run.order, definition.recent_messages), *refused)
    # How many messages at the end are the run's own turn: only a loader of files asks.
    turn = len(shown(history, run.order, 0)) + len(refused) if definition.files else 0
    return ModelRequest(
        run_id=run.pk,
        agent=definition.name,
        step=snapshot.next_step,
        attempt=run.attempt,
        instructions=instructions,
        context=snapshot.context or (),
        messages=messages,
        tools=definition.tool_specs,
        output_schema=definition.output_schema,
        feedback=_feedback(snapshot.last_model_step),
        mends_output=_mends_output(snapshot.last_model_step),
        settings=await choosing.settings(definition, snapshot, runtime),
        files=await files.load(definition, messages, turn, snapshot, runtime),
    )


def as_sent_to(model: AgentModel, request: ModelRequest) -> ModelRequest:
    """Return the request as this model may read it: without what another provider wants back."""
    origin = origin_of(model)
    messages = (message.as_sent_to(origin) for message in request.messages)
    return replace(request, messages=tuple(message for message in messages if message.parts))


def refused_text(last: Step | None) -> tuple[Part, ...]:
    """Return what the last step said beside an output that was refused; nothing where none was."""
    if last is None or not last.rejected:
        return ()
    return parts.from_json(last.rejected)


def _feedback(last: Step | None) -> str:
    """Return what was wrong with the answer of the last step, and which output it was, for the model."""
    if last is None or not last.rejected:
        return ""
    if last.error_code == ANSWER_NOT_ACCEPTED:
        return NOT_SHOWN.format(why=last.error_message)
    if "output" not in last.rejected:
        return last.error_message
    sent = jsontext.shorten(jsontext.canonical(last.rejected["output"]), LONGEST_SHOWN)
    return f"{last.error_message} This was sent: {sent}"


def _mends_output(last: Step | None) -> bool:
    """Return whether only the output of the last answer was refused; a guard refuses the whole answer."""
    return last is not None and bool(last.rejected) and last.error_code != ANSWER_NOT_ACCEPTED


async def with_history(snapshot: Snapshot, recent: int, runtime: Runtime) -> Snapshot:
    """Return the snapshot with its history; without a look at the database where nothing was said before its prompt."""
    run = snapshot.run
    if opens_its_thread(run) and run.prompt is not None:
        return replace(snapshot, history=(run.prompt,))
    return replace(snapshot, history=await runtime.read(history, run, recent))


def opens_its_thread(run: Run) -> bool:
    """Whether its prompt is all that anybody can have said before it, so that nobody can add to its history."""
    return run.order == FIRST_TURN and _opens_its_turn(run) and run.prompt_id is not None


def _opens_its_turn(run: Run) -> bool:
    """Whether its turn holds its prompt at most: nobody has driven it, nor what it is a retry of."""
    return run.attempt == 0 and run.retry_of_id is None


def history(run: Run, recent: int) -> tuple[Message, ...]:
    """Return the newest complete messages up to this run's turn, oldest first; of later turns, none."""
    readable = _readable().filter(thread_id=run.thread_id)
    older = readable.filter(order__lt=run.order).order_by("-order", "-step_order")[: recent + 1]
    if _opens_its_turn(run):
        return (*reversed(older), *([run.prompt] if run.prompt else []))
    return (*reversed(older), *readable.filter(order=run.order).order_by("step_order"))


@cache
def _readable() -> MessageQuerySet:
    """Return the messages that a model may read, to be filtered: what is left out of calls is worked out once."""
    messages: MessageQuerySet = Message.objects.complete().defer(*NOT_TOLD)
    return messages


async def _ask(function: Any, what: str, state: Snapshot, runtime: Runtime, *, read: Callable[[Any], Any]) -> Any:
    """Call a loader or instructions; raises `RunError` naming it."""
    hook = Hook(f"The {what} {name_of(function)}", code="context_failed", message=CONTEXT_FAILED)
    return await application.ask(hook, state.run, runtime, function, state.about, read=read)
