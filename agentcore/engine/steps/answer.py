"""What comes of a model's answer: calls to record, an output to check, a message to keep, the end of the run."""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...conf import get_settings
from ...declaration.files import NewFile
from ...declaration.guard import Answer, AskAgain, Redact, Refuse
from ...declaration.model import CallRequested, FileProduced, OutputProduced, TextDelta
from ...exceptions import ModelError, ModelRetry, NotKept
from ...failpoints import afailpoint
from ...journal.commit import Commit, Move, Saved, combined
from ...models import Step
from ...models.message import compose
from ...states import MessageStatus, RunStatus, StepStatus
from ...values import bounded, events, jsontext, parts
from ...values.clock import NOW
from ...values.finish import FinishReason, WithCalls
from ...values.parts import FilePart, Part, ToolCallPart
from .. import transitions
from ..snapshot import ANSWER_NOT_ACCEPTED, OUTPUT_INVALID, Snapshot
from . import calls, files, guarding, intake, prompt, spent
from .calls import Planned
from .draft import Draft
from .turn import Turn

logger = logging.getLogger("agentcore.engine")

CUT_OFF_CALL = (
    "The answer reached its length limit, so this call may be incomplete. It was not run: send it again, shorter."
)
CUT_OFF_OUTPUT = (
    "The answer reached its length limit before the structured output was complete. Send it again, shorter."
)
REFUSALS = {
    "content_filter": "The answer was held back by the filter of the model's provider. Ask in another way.",
    "refused": "The model has declined to answer. Ask in another way.",
}
NOT_TAKEN = {
    OUTPUT_INVALID: "The structured output was still not valid after {tries} tries.",
    ANSWER_NOT_ACCEPTED: "The answer was still not acceptable after {tries} tries. Ask in another way.",
}
"""How a run ends whose model has not mended its answer, by what was wrong with the last one."""


@dataclass(frozen=True)
class Fault:
    """Why an answer is not taken, and what the model is told to mend."""

    code: str
    said: str


def check_not_empty(turn: Turn) -> None:
    """Raise the `ModelError` of an answer that is none: no call, no text or file, and no output where one is owed."""
    draft, owes_output = turn.draft, turn.definition.output is not None
    if draft.end.fails or draft.calls or (owes_output and draft.outputs):
        return
    has_file = any(isinstance(item, FilePart | FileProduced) for item in draft.content.items)
    is_something = draft.content.says_something or has_file or (owes_output and not draft.end.complete)
    if draft.finish_reason is FinishReason.TOOL_CALLS or not is_something:
        nothing = f"The model ended with {draft.finish_reason or 'no reason'}, and has said nothing."
        raise ModelError(nothing, code="empty_answer")


async def finish(turn: Turn, step: Step) -> Snapshot | None:
    """Stage the commit of a finished step; without calls, it is the end of the run, and is committed."""
    state, draft, lease = turn.state, turn.draft, turn.lease
    if draft.end.fails:
        await _refuse(turn, step, Refuse(draft.end.fails, REFUSALS[draft.end.fails]))
        return None
    value, fault = await _output(turn)
    if draft.guarded:
        verdict = await guarding.after_answer(turn.definition, state, turn.runtime, _answer(turn, value, fault))
        if isinstance(verdict, Refuse):
            await _refuse(turn, step, verdict)
            return None
        value, fault = await _judged(turn, verdict, value, fault)
    cut_off = CUT_OFF_CALL if draft.end.calls is WithCalls.ANSWER else ""
    planned = await calls.plan(turn.definition, state, step, draft.calls, turn.runtime, refusal=cut_off)
    content = await _content(turn, planned)
    commit = combined(
        [
            _close(step, draft, content, fault),
            spent.used(state, draft),
            spent.note_unreported(turn),
            Commit() if fault else _said(state, content, draft, MessageStatus.COMPLETE),
            calls.record(state.run, planned),
        ]
    )
    if planned or (fault and state.answers_not_taken < get_settings().output_retries):
        lease.stage(commit, point="after_model_commit")
        still_open = [item.call for item in planned if not item.fault]
        asked_for = [item.call for item in planned]
        return state.with_run(**commit.run).after_model_step(step, asked_for, still_open, commit.messages)
    await afailpoint("before_finish")
    await lease.commit(commit, _over(turn, value, fault))
    return None


async def _judged(
    turn: Turn, verdict: Redact | AskAgain | None, value: Any, fault: Fault | None
) -> tuple[Any, Fault | None]:
    """Make the draft what the guards have left of it, and return the output and the fault that it has then."""
    draft = turn.draft
    match verdict:
        case AskAgain(feedback):
            draft.say_instead()
            return None, Fault(ANSWER_NOT_ACCEPTED, feedback)
        case Redact(text, output, keep_calls):
            kept = [replace(call, provider_details=None) for call in draft.calls] if keep_calls else []
            outputs = [] if output is None else [OutputProduced(output)]
            draft.say_instead(TextDelta(text), *kept, *outputs)
            return await _output(turn)
        case None:
            draft.agree()
    return value, fault


def _answer(turn: Turn, value: Any, fault: Fault | None) -> Answer:
    """Return the answer as its guards are to judge it: all that could be kept or shown of it."""
    draft, limit = turn.draft, get_settings().arguments_limit
    said: list[Part] = [*_mended(turn)]
    made: list[NewFile] = []
    for place, item in enumerate(draft.content.items):
        if isinstance(item, CallRequested):
            arguments, _ = intake.arguments(item.arguments, limit)
            said.append(ToolCallPart(item.call_id, item.name, arguments, provider_details=item.provider_details))
        elif isinstance(item, FileProduced):
            made.append(_new_file(turn, item, place))
        else:
            said.append(item)
    output = draft.outputs[-1] if fault and draft.outputs else value
    # A copy, for what is kept is what was said, whatever a guard does with it.
    return copy.deepcopy(Answer(tuple(said), output, draft.data, tuple(made)))


async def _content(turn: Turn, planned: Sequence[Planned]) -> list[Part]:
    """Return the answer as the parts of its message: its calls as they were recorded, its files as they were saved."""
    content: list[Part] = [*_mended(turn)]
    recorded = iter(planned)
    for place, item in enumerate(turn.draft.content.items):
        if isinstance(item, CallRequested):
            call = next(recorded).call
            content.append(
                ToolCallPart(call.call_id, call.name, call.arguments_json, provider_details=item.provider_details)
            )
        elif isinstance(item, FileProduced):
            new = _new_file(turn, item, place)
            kept = await files.save(turn.definition, item, new, turn.state, turn.runtime)
            content += [] if kept is None else [kept]
        else:
            content.append(item)
    return content


def _mended(turn: Turn) -> Sequence[Part]:
    """Return what the last step has said, where the answer only mends that step's output."""
    draft = turn.draft
    return () if draft.content.says_something or draft.is_replaced else prompt.refused_text(turn.state.last_model_step)


def _new_file(turn: Turn, file: FileProduced, place: int) -> NewFile:
    """Return a file as the application is to save it, under a key of its place and its bytes."""
    data = file.data or b""
    key = f"{turn.state.run.pk}:{turn.draft.step}:{place}:{hashlib.sha256(data).hexdigest()[:16]}"
    return NewFile(data, file.media_type, file.filename, key)


async def _output(turn: Turn) -> tuple[Any, Fault | None]:
    """Return the output that the answer owes as plain data, and what the model has to mend of it, if anything.

    Raises `NotKept` where the declared class reads another value than the one that was said.
    """
    conversion, draft = turn.definition.conversion, turn.draft
    if conversion is None or draft.calls:
        return None, None
    if draft.outputs:
        try:
            return await intake.checked(turn.runtime, conversion, lambda: conversion.record(draft.outputs[-1])), None
        except ModelRetry as error:
            said = f"The structured output is not valid: {error.message}."
        except NotKept as error:
            if not draft.guarded:
                raise
            # Where it changes is named by keys of its own, which nobody has judged.
            raise NotKept(f"{conversion.what}: an output is another one when it is stored and read again.") from error
    else:
        said = f"The answer needs a structured output of type {conversion.declared.__name__}; none came."
    return None, Fault(OUTPUT_INVALID, said if draft.end.complete else CUT_OFF_OUTPUT)


async def _refuse(turn: Turn, step: Step, refusal: Refuse) -> None:
    """End the run; what a refused answer has said is kept, unless it is for guards to judge."""
    draft = turn.draft
    over = transitions.over(
        turn.lease.claim,
        RunStatus.FAILED,
        code=refusal.code,
        message=refusal.message,
        detail=refusal.detail,
        finish_reason=draft.finish_reason,
    )
    said = _said(turn.state, draft.parts, draft, MessageStatus.FAILED)
    await afailpoint("before_finish")
    counted = spent.used(turn.state, draft).and_then(spent.note_unreported(turn))
    await turn.lease.commit(_close(step, draft), counted, said, over)


def _close(step: Step, draft: Draft, content: Sequence[Part] = (), fault: Fault | None = None) -> Commit:
    """Return the commit that finishes a step; an answer that is not taken is kept on it, and void for every reader."""
    values: dict[str, Any] = {
        "status": StepStatus.FINISHED.value,
        "finished_at": NOW,
        "finish_reason": draft.finish_reason or "",
        "finish_detail": draft.finish_detail,
        "usage": draft.used.to_json(),
        "error_code": fault.code if fault else "",
        "error_message": jsontext.clean_text(fault.said) if fault else "",
        "rejected": None,
    }
    void = []
    if fault:
        sent = {"output": bounded.cut(draft.outputs[-1], get_settings().result_limit)} if draft.outputs else {}
        values["rejected"] = {**parts.to_json(content), **sent}
        void = [events.StepReset(step.number, step.attempt, fault.code)]
    return Commit(
        events=[*draft.take(), *_files(step, content), *void, events.StepFinished(step.number, draft.finish_reason)],
        run={"lost_leases": 0},
        moves=[Move(step, StepStatus.STARTED, values)],
    )


def _files(step: Step, content: Sequence[Part]) -> list[events.File]:
    """Return the events of files that had no address until they were saved."""
    saved = [part for part in content if isinstance(part, FilePart) and part.file_id]
    return [events.File(step.number, part.media_type, part.file_id, filename=part.filename or None) for part in saved]


def _over(turn: Turn, value: Any, fault: Fault | None) -> Commit:
    """Return the end of a run whose last step asked for no tool."""
    row, reason = turn.lease.claim, turn.draft.finish_reason
    if fault:
        message = NOT_TAKEN[fault.code].format(tries=turn.state.answers_not_taken + 1)
        return transitions.over(row, RunStatus.FAILED, code=fault.code, message=message, finish_reason=reason)
    over = transitions.over(row, RunStatus.SUCCEEDED, finish_reason=reason)
    if value is None:
        return over
    return Commit(events=[events.Output(value)], run={"output": value}).and_then(over)


def keep_draft(state: Snapshot, draft: Draft, status: MessageStatus) -> Commit:
    """Return the commit that keeps what a broken-off step has said; it is never shown to a model."""
    said = _said(state, draft.parts, draft, status)
    return Commit(events=draft.take()).and_then(spent.used(state, draft), said)


def _said(state: Snapshot, content: list[Part], draft: Draft, status: MessageStatus) -> Commit:
    if not content:
        return Commit()
    wanted_back = parts.details_to_json(content, draft.origin, draft.response_details)
    message = compose(
        thread_id=state.run.thread_id,
        run_id=state.run.pk,
        order=state.run.order,
        step_order=0,
        author_kind="agent",
        author_name=state.run.agent,
        content=tuple(content),
        status=status,
        finish_reason=draft.finish_reason or "",
        provider_details=wanted_back if status is MessageStatus.COMPLETE else None,
    )
    return Commit(events=[Saved(message, draft.step)])
