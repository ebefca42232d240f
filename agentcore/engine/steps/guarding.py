"""Ask an agent's guards before a model call, after its answer, and before a tool call.

What a guard raises, or that it is late, ends the run (`application.ask`): what was not judged is not done.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

from ...declaration.agent import AgentDefinition
from ...declaration.guard import Answer, Ask, AskAgain, Deny, ProposedCall, Redact, Refuse
from ...declaration.model import ModelMessage, ModelRequest
from ...exceptions import RunError, UserError
from ...models import ToolCall
from ...values.functions import kind_of, name_of
from ...values.parts import ToolCallPart, ToolResultPart
from .. import application
from ..application import TRY_AGAIN, Hook
from ..runtime import Runtime
from ..snapshot import Snapshot

NOT_JUDGED = f"Whether the agent may go on could not be found out. {TRY_AGAIN}"
AS_ASKED = ("run_id", "agent", "step", "attempt")
"""What a guard leaves as it is: a request is one of a run, whatever else is changed of it."""


async def before_model(
    definition: AgentDefinition, state: Snapshot, runtime: Runtime, request: ModelRequest
) -> ModelRequest:
    """Return the request as the guards will have it sent; raises the `RunError` of one that refuses it.

    Each guard is given the request as the one before has left it, and may do with it what it likes.
    """
    functions = definition.guarding("before_model")
    if functions:
        request = _of_its_own(request)
    for function in functions:
        read = partial(_request, function, request)
        verdict = await _ask(function, request, state, runtime, read=read)
        if isinstance(verdict, Refuse):
            raise RunError(verdict.message, code=verdict.code, detail=verdict.detail)
        request = verdict
    return request


async def after_answer(
    definition: AgentDefinition, state: Snapshot, runtime: Runtime, answer: Answer
) -> Redact | AskAgain | Refuse | None:
    """Return what becomes of an answer, None where it stays as it is: the first guard that refuses it decides.

    Each guard is given the answer as the one before has left it.
    """
    left: Redact | None = None
    calls = answer.calls
    for function in definition.guarding("after_answer"):
        read = partial(_of_answer, function, answer)
        verdict: Redact | AskAgain | Refuse | None = await _ask(function, answer, state, runtime, read=read)
        if isinstance(verdict, Redact):
            left, answer = verdict.after(left), answer.redacted(verdict)
        elif verdict is not None:
            return verdict
    if left is not None and not (left.text.strip() or left.output is not None or (left.keep_calls and calls)):
        raise UserError("The guards leave nothing of an answer. Have one write a text, or refuse the answer.")
    return left


async def before_tool(
    definition: AgentDefinition, state: Snapshot, runtime: Runtime, call: ToolCall, *, approved: bool = False
) -> Deny | Ask | None:
    """Return what stands against a call with its arguments as they are: the first denial, or else a question."""
    functions = definition.guarding("before_tool")
    if not functions:
        return None
    effect = definition.tools_by_name[call.name].effect.value
    proposed = ProposedCall(call.call_id, call.name, call.arguments_json, effect, approved)
    asked: Ask | None = None
    for function in functions:
        verdict = await _ask(function, proposed, state, runtime, read=partial(_of_call, function))
        if isinstance(verdict, Deny):
            return verdict
        asked = asked or verdict
    return asked


async def _ask(
    function: Callable[..., Any], judged: Any, state: Snapshot, runtime: Runtime, *, read: Callable[[Any], Any]
) -> Any:
    hook = Hook(f"The guard {name_of(function)}", code="guard_failed", message=NOT_JUDGED)
    return await application.ask(hook, state.run, runtime, function, judged, state.about, read=read)


def _of_its_own(request: ModelRequest) -> ModelRequest:
    """Return a copy: what is asked is made of what the agent declares and the thread has said."""
    files, settings = dict(request.files), dict(request.settings)
    return replace(copy.deepcopy(replace(request, files={}, settings={})), files=files, settings=settings)


def _request(function: Any, asked: ModelRequest, verdict: Any) -> ModelRequest | Refuse:
    """Return the request to send; raises `UserError` for what is none, or none that every provider takes."""
    if verdict is None:
        return asked
    if isinstance(verdict, Refuse):
        return verdict
    if not isinstance(verdict, ModelRequest):
        _unfit(function, verdict, "a ModelRequest, Refuse(…), or None to send it as it is")
    messages = tuple(verdict.messages)
    if not all(isinstance(message, ModelMessage) for message in messages):
        _unfit(function, verdict.messages, "a request whose messages are of ModelMessage")
    if any(getattr(verdict, name) != getattr(asked, name) for name in AS_ASKED):
        raise UserError(f"The guard {name_of(function)} changed whose request it is: leave {', '.join(AS_ASKED)}.")
    if not _is_paired(messages):
        raise UserError(
            f"The guard {name_of(function)} left a call without its result, or a result without its call: keep both, "
            "or leave both out."
        )
    return replace(verdict, messages=_without_originals(asked.messages, messages))


def _without_originals(asked: tuple[ModelMessage, ...], messages: tuple[ModelMessage, ...]) -> tuple[ModelMessage, ...]:
    """Return changed messages without what their provider wants back, which may hold or name them as they were.

    What it wants back with an answer as a whole may name all that was said before it.
    """
    if messages == asked:
        return messages
    return tuple(replace(item, provider_details=None) if item in asked else item.plain() for item in messages)


def _is_paired(messages: tuple[ModelMessage, ...]) -> bool:
    """Whether each call has one result, somewhere behind it, and each result its call."""
    open_calls: Counter[str] = Counter()
    for message in messages:
        for part in message.parts:
            if isinstance(part, ToolCallPart):
                open_calls[part.call_id] += 1
            elif isinstance(part, ToolResultPart):
                open_calls[part.call_id] -= 1
                if open_calls[part.call_id] < 0:
                    return False
    return not any(open_calls.values())


def _of_answer(function: Any, answer: Answer, verdict: Any) -> Redact | AskAgain | Refuse | None:
    if not isinstance(verdict, Redact | AskAgain | Refuse | None):
        _unfit(function, verdict, "Redact(…), AskAgain(…), Refuse(…), or None to agree")
    if isinstance(verdict, Redact) and verdict.output is None and answer.output is not None:
        raise UserError(
            f"The guard {name_of(function)} redacts an answer that has a structured output: write Redact(text, "
            "output=…) with what may be kept of it, or refuse the answer."
        )
    return verdict


def _of_call(function: Any, verdict: Any) -> Deny | Ask | None:
    if not isinstance(verdict, Deny | Ask | None):
        _unfit(function, verdict, "Deny(…), Ask(…), or None to let it run")
    return verdict


def _unfit(function: Any, given: Any, wanted: str) -> NoReturn:
    # Its kind only: it may hold what nobody may see.
    raise UserError(f"The guard {name_of(function)} gave a {kind_of(given)}: return {wanted}.")
