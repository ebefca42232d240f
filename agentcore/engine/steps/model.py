"""One model step: open it, stream it into the log, and try again or end the run where the model fails."""

from __future__ import annotations

import logging
import random
from dataclasses import replace
from typing import cast

from ...conf import get_settings
from ...database import rows
from ...declaration.model import AgentModel
from ...exceptions import ModelError
from ...failpoints import afailpoint
from ...journal.commit import Commit, Insert
from ...models import Step
from ...states import MessageStatus, RunStatus, StepKind
from ...values import events
from ...values.clock import NOW
from ...values.functions import name_of
from ...values.logextra import log_extra
from .. import application, limits, transitions
from ..application import Hook
from ..snapshot import Snapshot
from . import answer, prompt
from .answer import Turn
from .draft import length_of
from .stream import Deadline, read_model

logger = logging.getLogger("agentcore.engine")

LONGEST_BACKOFF = 300.0


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
        turn.draft.asked_with = length_of(request)
    step, opened = _opened(turn, model)
    await lease.commit(opened)
    await afailpoint("after_model_start")
    try:
        await read_model(model, request, turn.draft, lease, _deadline(turn))
        answer.check_not_empty(turn)
    except ModelError as error:
        return await _failed(turn, step, error)
    return await answer.finish(turn, step)


async def _model(turn: Turn) -> AgentModel:
    """Return the model to call; a function that chooses one is asked anew for each step."""
    choose = turn.definition.model_chooser
    if choose is None:
        return cast(AgentModel, turn.definition.model)
    what = f"The function {name_of(choose)}, which chooses the model,"
    hook = Hook(what, code="model_failed", message=ModelError.SENTENCES["provider_error"])
    return await application.ask(hook, turn.state.run, turn.runtime, choose, read=turn.definition.as_chosen)


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
    )
    shown = [{"name": block.name, "text": block.text[:300], "chars": len(block.text)} for block in blocks or ()]
    started = events.StepStarted(
        step.number, step.kind, step.attempt, step.model, step.provider, None if blocks is None else shown
    )
    return step, Commit(events=[started], inserts=[Insert(step, {"started_at": NOW})], starts=True)


def _deadline(turn: Turn) -> Deadline:
    """Return how long this step may take, and what it means when it takes longer."""
    seconds = get_settings().step_seconds
    most = turn.definition.limits.max_seconds
    left = seconds if most is None else max(most - turn.state.seconds_running, 0.0)
    if most is not None and left < seconds:
        return Deadline(left, limits.out_of_time(most))
    late = ModelError(f"The model did not end its step within {seconds:g} seconds.", code="timeout")
    return Deadline(seconds, late)


async def _failed(turn: Turn, step: Step, error: ModelError) -> Snapshot | None:
    """Give the step up: try again, or end the run with the provider's own code and what was said."""
    again = retry_in(error, turn.state.failed_tries)
    about = log_extra("model_failed", turn.state.run.pk, step.attempt, detail=error.detail[:500])
    logger.warning("model call failed: %s", error.run_code, extra=about)
    reason = turn.draft.finish_reason
    given_up = transitions.abandon(
        step, step.attempt, error.run_code, error.shown, detail=error.detail, finish_reason=reason
    )
    if again is not None:
        counted = answer.used(turn.state, turn.draft)
        await turn.lease.commit(given_up, counted)
        return turn.state.with_run(**counted.run).after_failure(again)
    kept = answer.keep_draft(turn.state, turn.draft, MessageStatus.FAILED)
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
