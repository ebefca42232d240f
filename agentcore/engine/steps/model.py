"""One model step: open it, stream it into the log, and stage what came of it as one commit."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

from ...conf import get_settings
from ...database import rows
from ...declaration.agent import AgentDefinition
from ...declaration.context import ContextBlock
from ...declaration.model import AgentModel
from ...exceptions import ModelError
from ...failpoints import afailpoint
from ...journal.commit import Commit, Insert, Move, Saved, combined
from ...journal.lease import Lease
from ...models import Message, Step
from ...models.message import compose
from ...states import MessageStatus, RunStatus, StepKind, StepStatus
from ...values import events
from ...values.clock import NOW
from ...values.finish import FinishReason, WithCalls
from ...values.functions import name_of
from ...values.parts import Part, ToolCallPart
from ...values.usage import Usage
from .. import application, hooks, limits, retry, transitions
from ..hooks import Hook
from ..runtime import Runtime
from ..snapshot import OUTPUT_INVALID, Snapshot
from . import calls, estimate, output, prompt
from .draft import Draft
from .output import Verdict, check_output
from .stream import Deadline, read_model

logger = logging.getLogger("agentcore.engine")

CUT_OFF_CALL = (
    "The answer reached its length limit, so this call may be incomplete. It was not run: send it again, shorter."
)
REFUSALS = {
    "content_filter": "The answer was held back by the filter of the model's provider. Ask in another way.",
    "refused": "The model has declined to answer. Ask in another way.",
}
USAGE_MISSING = "usage_missing"
NOTES = {
    False: "The model does not report what it uses, so {limits} cannot end the run. Have its adapter report usage, or "
    "set AGENTCORE['ESTIMATE_TOKENS'].",
    True: "The model does not report what it uses: {limits} goes by tokens that are estimated from characters.",
}
"""What a run notes of such a model, by whether its tokens are estimated."""


@dataclass(frozen=True)
class Turn:
    """What one model step needs; `draft` is what it has said, also for whoever breaks it off."""

    definition: AgentDefinition
    state: Snapshot
    runtime: Runtime
    lease: Lease
    draft: Draft


async def model_step(turn: Turn) -> Snapshot | None:
    """Run one model step and stage its end; returns how the run stands then, None where it has ended.

    Where the provider failed and is to be asked again, the snapshot says when.
    """
    state, lease = turn.state, turn.lease
    if prompt.asks_the_application(turn.definition, state):
        await lease.commit()
    if state.context is None:
        context = await prompt.load_context(turn.definition, state.run, turn.runtime)
        state = replace(state, context=context)
        turn = replace(turn, state=state)
    request = await prompt.build(turn.definition, state, turn.runtime)
    model = await _model(turn)
    if get_settings().estimate_tokens:
        turn.draft.asked_with = estimate.characters(request)
    step = _opened(turn, model)
    await lease.commit(_start(turn, step))
    await afailpoint("after_model_start")
    try:
        await read_model(model, request, turn.draft, lease, _deadline(turn))
    except ModelError as error:
        return await _failed(turn, step, error)
    return await _finished(turn, step)


async def _model(turn: Turn) -> AgentModel:
    """Return the model to call; a function that chooses one is asked anew for each step."""
    choose = turn.definition.model_chooser
    if choose is None:
        return cast(AgentModel, turn.definition.model)
    what = f"The function {name_of(choose)}, which chooses the model,"
    hook = Hook(what, code="model_failed", message=ModelError.SENTENCES["provider_error"])
    async with hooks.asking(hook, turn.state.run, turn.runtime):
        return await application.call(turn.runtime.threads, choose, read=turn.definition.as_chosen)


def _deadline(turn: Turn) -> Deadline:
    """Return how long this step may take, and what it means when it takes longer."""
    seconds = get_settings().step_seconds
    most = turn.definition.limits.max_seconds
    left = seconds if most is None else max(most - turn.state.seconds_running, 0.0)
    if most is not None and left < seconds:
        return Deadline(left, limits.out_of_time(most))
    late = ModelError(f"The model did not end its step within {seconds:g} seconds.", code="timeout")
    return Deadline(seconds, late)


def _opened(turn: Turn, model: AgentModel) -> Step:
    """Return the step's row; the first one of a run keeps the context blocks for all of them."""
    return rows.new(
        Step,
        run_id=turn.state.run.pk,
        number=turn.state.next_step,
        kind=StepKind.MODEL,
        attempt=turn.lease.claim.attempt,
        model=model.name[:120],
        provider=model.provider[:60],
        context=[block.to_json() for block in _first_context(turn.state) or ()],
    )


def _first_context(state: Snapshot) -> tuple[ContextBlock, ...] | None:
    return state.context if state.last_model_step is None else None


def _start(turn: Turn, step: Step) -> Commit:
    blocks = _first_context(turn.state)
    shown = [{"name": block.name, "text": block.text[:300], "chars": len(block.text)} for block in blocks or ()]
    started = events.StepStarted(
        step.number, step.kind, step.attempt, step.model, step.provider, None if blocks is None else shown
    )
    return Commit(events=[started], inserts=[Insert(step, {"started_at": NOW})], starts=True)


async def _failed(turn: Turn, step: Step, error: ModelError) -> Snapshot | None:
    """Give the step up: try again, or end the run with the provider's own code and what was said."""
    again = retry.after(error, turn.state.failed_tries)
    about = {"run_id": str(turn.state.run.pk), "attempt": step.attempt, "action": "model_failed"}
    logger.warning("model call failed: %s", error.run_code, extra={**about, "detail": error.detail[:500]})
    reason = turn.draft.finish_reason
    given_up = transitions.abandon(
        step, step.attempt, error.run_code, error.shown, detail=error.detail, finish_reason=reason
    )
    if again is not None:
        counted = used(turn.state, turn.draft)
        await turn.lease.commit(given_up, counted)
        return turn.state.with_run(**counted.run).after_failure(again)
    kept = keep_draft(turn.state, turn.draft, MessageStatus.FAILED)
    over = transitions.over(
        turn.lease.claim,
        RunStatus.FAILED,
        code=error.run_code,
        message=error.shown,
        detail=error.detail,
        retry_after=error.retry_after,
        finish_reason=reason,
    )
    await turn.lease.commit(kept, Commit(moves=given_up.moves), over)
    return None


async def _finished(turn: Turn, step: Step) -> Snapshot | None:
    """Stage the commit of a finished step; without calls, it is the end of the run, and is committed."""
    state, draft, lease = turn.state, turn.draft, turn.lease
    if draft.end.fails:
        await _refused(turn, step)
        return None
    if _is_empty(turn):
        nothing = f"The model ended with {draft.finish_reason or 'no reason'}, and has said nothing."
        return await _failed(turn, step, ModelError(nothing, code="empty_answer"))
    cut_off = CUT_OFF_CALL if draft.end.calls is WithCalls.ANSWER else ""
    planned = await calls.plan(turn.definition, state.run, step, draft.calls, turn.runtime, refusal=cut_off)
    asked: list[Part] = [ToolCallPart(item.call.call_id, item.call.name, item.call.arguments_json) for item in planned]
    verdict = await check_output(turn.definition, draft, turn.runtime, has_calls=bool(planned))
    content = output.carried_on(state.last_model_step, draft)
    said_so = _said(state, [*content, *asked], draft, MessageStatus.COMPLETE)
    commit = combined(
        [
            _close(step, draft, verdict, content),
            used(state, draft),
            _note_unreported(turn),
            *([] if verdict.fault else [said_so]),
            *([calls.record(planned, step.number)] if planned else []),
        ]
    )
    if planned or (verdict.fault and state.output_faults < get_settings().output_retries):
        lease.stage(commit, point="after_model_commit")
        still_open = [item.call for item in planned if not item.fault]
        asked_for = [item.call for item in planned]
        return state.with_run(**commit.run).after_model_step(step, asked_for, still_open, commit.messages)
    await afailpoint("before_finish")
    await lease.commit(commit, _over(turn, verdict))
    return None


def _is_empty(turn: Turn) -> bool:
    """Whether an answer is none: no call, no text that somebody could read, and no output where one is owed."""
    draft, owes_output = turn.draft, turn.definition.output is not None
    if draft.calls or (owes_output and draft.outputs):
        return False
    if draft.finish_reason is FinishReason.TOOL_CALLS:
        return True
    return not draft.says_something and not (owes_output and not draft.end.complete)


async def _refused(turn: Turn, step: Step) -> None:
    """End the run with an answer that is none: it was filtered or refused; what was said of it is kept."""
    draft = turn.draft
    over = transitions.over(
        turn.lease.claim,
        RunStatus.FAILED,
        code=draft.end.fails,
        message=REFUSALS[draft.end.fails],
        finish_reason=draft.finish_reason,
    )
    said = _said(turn.state, draft.parts, draft, MessageStatus.FAILED)
    await afailpoint("before_finish")
    counted = used(turn.state, draft).and_then(_note_unreported(turn))
    await turn.lease.commit(_close(step, draft, Verdict(), []), counted, said, over)


def _close(step: Step, draft: Draft, verdict: Verdict, content: Sequence[Part]) -> Commit:
    """Return the commit that finishes a step; an answer that is not taken is kept on it, and void for every reader."""
    values = {
        "status": StepStatus.FINISHED.value,
        "finished_at": NOW,
        "finish_reason": draft.finish_reason or "",
        "finish_detail": draft.finish_detail,
        "usage": draft.used.to_json(),
        "error_code": OUTPUT_INVALID if verdict.fault else "",
        "error_message": verdict.fault,
        "rejected": output.rejected(content, draft.outputs) if verdict.fault else None,
    }
    void = [events.StepReset(step.number, step.attempt, OUTPUT_INVALID)] if verdict.fault else []
    return Commit(
        events=[*draft.take(), *void, events.StepFinished(step.number, draft.finish_reason)],
        run={"lost_leases": 0},
        moves=[Move(step, StepStatus.STARTED, values)],
    )


def _over(turn: Turn, verdict: Verdict) -> Commit:
    """Return the end of a run whose last step asked for no tool."""
    row, reason = turn.lease.claim, turn.draft.finish_reason
    if verdict.fault:
        message = f"The structured output was still not valid after {turn.state.output_faults + 1} tries."
        return transitions.over(row, RunStatus.FAILED, code=OUTPUT_INVALID, message=message, finish_reason=reason)
    over = transitions.over(row, RunStatus.SUCCEEDED, finish_reason=reason)
    if verdict.value is None:
        return over
    return Commit(events=[events.Output(verdict.value)], run={"output": verdict.value}).and_then(over)


def keep_draft(state: Snapshot, draft: Draft, status: MessageStatus) -> Commit:
    """Return the commit that keeps what a broken-off step has said; it is never shown to a model."""
    said = _said(state, draft.parts, draft, status)
    return Commit(events=draft.take()).and_then(used(state, draft), said)


def used(state: Snapshot, draft: Draft) -> Commit:
    """Return the commit that adds a step's tokens to the run's, however the step ended."""
    usage = draft.used
    if usage == Usage():
        return Commit()
    total = state.run.used + usage
    return Commit(events=[events.UsageAdded(draft.step, usage.to_json())], run={"usage": total.to_json()})


def _note_unreported(turn: Turn) -> Commit:
    """Return the commit that notes, once a run, that its model does not say what a limit goes by."""
    run, bounds = turn.state.run, turn.definition.limits
    limited = [name for name in ("max_tokens", "max_cost") if getattr(bounds, name) is not None]
    if not limited or turn.draft.usage != Usage() or USAGE_MISSING in run.notes:
        return Commit()
    said = NOTES[turn.draft.asked_with is not None].format(limits=" and ".join(limited))
    extra = {"run_id": str(run.pk), "attempt": turn.lease.claim.attempt, "action": USAGE_MISSING}
    logger.warning("%s", said, extra=extra)
    return Commit(run={"notes": {**run.notes, USAGE_MISSING: said}})


def _said(state: Snapshot, content: list[Part], draft: Draft, status: MessageStatus) -> Commit:
    if not content:
        return Commit()
    message: Message = compose(
        thread_id=state.run.thread_id,
        run_id=state.run.pk,
        order=state.run.order,
        step_order=0,
        author_kind="agent",
        author_name=state.run.agent,
        content=tuple(content),
        status=status,
        finish_reason=draft.finish_reason or "",
    )
    return Commit(events=[Saved(message, draft.step)])
