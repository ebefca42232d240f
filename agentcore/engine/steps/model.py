"""One model step: open it, stream it into the log, and try again or end the run where the model fails."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Sequence
from dataclasses import replace

from ...conf import get_settings
from ...database import rows
from ...declaration.model import AgentModel, ModelRequest, origin_of
from ...exceptions import ModelError
from ...failpoints import afailpoint
from ...journal.commit import Commit, Insert
from ...models import Step
from ...states import MessageStatus, RunStatus, StepKind
from ...values import events
from ...values.clock import NOW
from ...values.logextra import log_extra
from .. import limits, transitions
from ..snapshot import Snapshot
from . import answer, choosing, guarding, prompt, spent
from .estimate import length_of
from .stream import Deadline, read_model
from .turn import Turn

logger = logging.getLogger("agentcore.engine")

LONGEST_BACKOFF = 300.0


async def model_step(turn: Turn) -> Snapshot | None:
    """Run one model step and stage its end; returns how the run stands then, None where it has ended.

    Of several models, the next one is asked where one has failed before it said anything. Where the provider is
    to be asked again later, the snapshot says when.
    """
    if choosing.asks_the_application(turn.definition, turn.state):
        await turn.lease.commit()
    if turn.state.context is None:
        context = await prompt.load_context(turn.definition, turn.state, turn.runtime)
        turn = replace(turn, state=replace(turn.state, context=context))
    models = await choosing.models(turn.definition, turn.state, turn.runtime)
    request = await prompt.build(turn.definition, turn.state, turn.runtime)
    began, errors = time.monotonic(), list[ModelError]()
    for place, model in enumerate(models, start=1):
        asked = prompt.as_sent_to(model, request)
        asked = await guarding.before_model(turn.definition, turn.state, turn.runtime, asked)
        step = await _open(turn, model)
        try:
            await _read(turn, model, asked, _deadline(turn, began))
        except ModelError as error:
            errors.append(error)
            if place == len(models) or turn.draft.has_begun:
                return await _failed(turn, step, errors)
            turn = await _given_up(turn, step, error, passes_on=True)
            await limits.check(turn.state, turn.definition.limits, turn.runtime)
        else:
            break
    return await answer.finish(turn, step)


async def _read(turn: Turn, model: AgentModel, request: ModelRequest, deadline: Deadline) -> None:
    """Read what a model says to the request into the draft; raises `ModelError` where that is no answer."""
    if get_settings().estimate_tokens:
        turn.draft.asked_with = length_of(request)
    await read_model(model, request, turn.draft, turn.lease, deadline)
    answer.check_not_empty(turn)


async def _open(turn: Turn, model: AgentModel) -> Step:
    """Commit the start of a step."""
    step, opened = _opened(turn, model)
    await turn.lease.commit(opened)
    await afailpoint("after_model_start")
    turn.draft.origin = origin_of(model)
    return step


def _opened(turn: Turn, model: AgentModel) -> tuple[Step, Commit]:
    """Return the step's row and the commit that opens it; the first one of a run keeps the context for all of them."""
    state = turn.state
    blocks = state.context if state.last_model_step is None else None
    step = rows.new(
        Step,
        run_id=state.run.pk,
        number=state.next_step,
        kind=StepKind.MODEL,
        attempt=turn.lease.claim.attempt,
        model=model.name[:120],
        provider=model.provider[:60],
        context=[block.to_json() for block in blocks or ()],
        tools=[*turn.definition.tools_by_name] if turn.definition.tool_sources else [],
    )
    shown = [{"name": block.name, "text": block.text[:300], "chars": len(block.text)} for block in blocks or ()]
    started = events.StepStarted(
        step.number, step.kind, step.attempt, step.model, step.provider, None if blocks is None else shown
    )
    return step, Commit(events=[started], inserts=[Insert(step, {"started_at": NOW})], starts=True)


def _deadline(turn: Turn, began: float) -> Deadline:
    """Return how long this step may take, with all its models, and what it means when it takes longer."""
    seconds = get_settings().step_seconds
    left = max(began + seconds - time.monotonic(), 0.0)
    most = turn.definition.limits.max_seconds
    may_run = left if most is None else max(most - turn.state.seconds_running, 0.0)
    if most is not None and may_run < left:
        return Deadline(may_run, limits.out_of_time(most))
    late = ModelError(f"The model did not end its step within {seconds:g} seconds.", code="timeout")
    return Deadline(left, late)


async def _failed(turn: Turn, step: Step, errors: Sequence[ModelError]) -> Snapshot | None:
    """Give the step up, which each model has failed at: try again, or end the run with what the first one said.

    It is tried again where one of them may be asked again, and not before the time that any of those has named.
    The error of a model that has begun to speak counts for what was said.
    """
    last = errors[-1]
    waits = [seconds for error in errors if (seconds := retry_in(error, turn.state.failed_tries)) is not None]
    if waits:
        turn = await _given_up(turn, step, last)
        return replace(turn.state, retry_in=max(waits))
    error = last if turn.draft.has_begun else errors[0]
    given_up = _abandoned(turn, step, last)
    kept = answer.keep_draft(turn.state, turn.draft, MessageStatus.FAILED)
    over = transitions.over(
        turn.lease.claim,
        RunStatus.FAILED,
        code=error.run_code,
        message=error.shown,
        detail=error.detail,
        retry_after=error.retry_after,
        finish_reason=turn.draft.finish_reason,
    )
    await turn.lease.commit(kept, Commit(moves=given_up.moves), over)
    return None


async def _given_up(turn: Turn, step: Step, error: ModelError, *, passes_on: bool = False) -> Turn:
    """Commit that a step has failed and is still due; returns the turn to take it again, or to pass it on."""
    given_up, counted = _abandoned(turn, step, error, passes_on=passes_on), spent.used(turn.state, turn.draft)
    await turn.lease.commit(given_up, counted)
    turn.draft.start_over()
    state = turn.state.with_run(**counted.run)
    return replace(turn, state=state if passes_on else state.after_failure())


def _abandoned(turn: Turn, step: Step, error: ModelError, *, passes_on: bool = False) -> Commit:
    about = log_extra("model_failed", turn.state.run.pk, step.attempt)
    logger.warning("model call failed: %s", error.run_code, extra=about)
    reason = turn.draft.finish_reason
    return transitions.abandon(
        step,
        step.attempt,
        error.run_code,
        error.shown,
        detail=error.detail,
        finish_reason=reason,
        passed_on=passes_on,
    )


def retry_in(error: ModelError, failed_before: int) -> float | None:
    """Return in how many seconds a model is asked again, or None when the run must fail.

    `failed_before` counts the failures of this step up to now. A provider's own
    `Retry-After` wins over the exponential backoff; where it is longer than the setting
    allows, the run fails, and says so.
    """
    settings = get_settings()
    if not error.retryable or failed_before >= settings.model_retries:
        return None
    if error.retry_after is not None:
        return error.retry_after if error.retry_after <= settings.retry_after_limit else None
    backoff = 0.5 * 2.0**failed_before
    return min(backoff * random.uniform(0.75, 1.25), LONGEST_BACKOFF)  # noqa: S311 - jitter, not a secret
