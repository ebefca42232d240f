"""One model step: open it, stream it into the log, and commit what came of it as one entry."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

from .. import events, jsontext
from ..clock import NOW
from ..conf import get_settings
from ..context import ContextBlock
from ..definition import AgentDefinition
from ..exceptions import CancelRequested, LimitReached, ModelError, RunError
from ..models import Step
from ..models.message import compose
from ..parts import Part, ToolCallPart
from ..providers.base import AgentModel, ModelEvent, ModelRequest
from ..states import MessageStatus, RunStatus, StepKind, StepStatus
from ..usage import Usage
from . import calls, ending, journal, prompt, retry, takeover
from .claim import Allocation, Claim
from .draft import Draft
from .journal import Change, Commit, Insert, Saved
from .output import check_output
from .retry import Retry
from .runtime import Runtime
from .snapshot import OUTPUT_INVALID, Snapshot

logger = logging.getLogger("agentcore.engine")


@dataclass(frozen=True)
class Turn:
    """What one model step needs; `draft` is what it has said, also for whoever breaks it off."""

    claim: Claim
    definition: AgentDefinition
    snapshot: Snapshot
    runtime: Runtime
    draft: Draft

    @property
    def number(self) -> int:
        """The step's number."""
        return self.snapshot.next_step

    async def commit(self, entry: Commit) -> Allocation:
        """Commit under the claim."""
        return await self.runtime.db(journal.commit, self.claim, entry)

    async def flush(self) -> None:
        """Commit what has been said so far; raises `CancelRequested` where the row says that nobody wants more."""
        allocation = await self.commit(Commit(events=self.draft.take()))
        if allocation.cancel_requested:
            raise CancelRequested


async def model_step(turn: Turn) -> Retry | None:
    """Run one model step to its commit; returns a delay where the provider failed and is to be asked again."""
    context = turn.snapshot.context
    if context is None:
        context = await prompt.load_context(turn.definition, turn.snapshot.run, turn.runtime)
    request = await prompt.build(turn.definition, turn.snapshot, context, turn.runtime)
    model = turn.definition.choose_model()
    step = await _open(turn, model, context)
    seconds, reached = _time_left(turn)
    try:
        async with asyncio.timeout(seconds):
            await _stream(turn, model, request)
    except TimeoutError as error:
        if not isinstance(reached, ModelError):
            raise reached from error
        return await _failed(turn, step, reached)
    except ModelError as error:
        return await _failed(turn, step, error)
    await turn.commit(await _finished(turn, step))
    return None


def _time_left(turn: Turn) -> tuple[float, RunError]:
    """Return how long this step may take, and what it means when it takes longer."""
    seconds = get_settings().step_seconds
    most = turn.definition.limits.max_seconds
    left = seconds if most is None else max(most - turn.snapshot.seconds_since_start, 0.0)
    if most is not None and left < seconds:
        return left, LimitReached(f"The run has taken its {most:g} seconds.", code="limit_time")
    return seconds, ModelError(f"The model did not end its step within {seconds:g} seconds.", code="timeout")


async def _open(turn: Turn, model: AgentModel, context: tuple[ContextBlock, ...]) -> Step:
    first = turn.snapshot.last_model_step is None
    step = Step(
        run_id=turn.claim.run_id,
        number=turn.number,
        kind=StepKind.MODEL,
        attempt=turn.claim.attempt,
        model=model.name[:120],
        provider=model.provider[:60],
        context=[block.to_json() for block in context] if first else [],
    )
    shown = [{"name": block.name, "text": block.text[:300], "chars": len(block.text)} for block in context]
    started = events.StepStarted(
        turn.number, StepKind.MODEL.value, turn.claim.attempt, model.name, model.provider, shown if first else None
    )
    await turn.commit(Commit(events=[started], inserts=[Insert(step, {"started_at": NOW})], starts=True))
    return step


async def _stream(turn: Turn, model: AgentModel, request: ModelRequest) -> None:
    """Read the model's events and commit deltas when they are due; a silent model is a timeout."""
    draft = turn.draft
    received: asyncio.Queue[ModelEvent | BaseException | None] = asyncio.Queue(maxsize=100)
    reader = asyncio.create_task(_read(model.stream(request), received))
    try:
        while True:
            try:
                async with asyncio.timeout(draft.seconds_until_due()):
                    item = await received.get()
            except TimeoutError:
                await turn.flush()
                continue
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            draft.add(item)
            if draft.seconds_until_due() == 0.0:
                await turn.flush()
    finally:
        reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reader


async def _read(stream: AsyncIterator[ModelEvent], received: asyncio.Queue[ModelEvent | BaseException | None]) -> None:
    """Pump a model's events into a queue, so that a delta can be flushed while the model is silent."""
    limit = get_settings().model_timeout
    try:
        async with contextlib.aclosing(stream) as closing:  # type: ignore[type-var]
            while True:
                async with asyncio.timeout(limit):
                    event = await anext(closing, None)
                await received.put(event)
                if event is None:
                    return
    except TimeoutError:
        await received.put(ModelError(f"The model was silent for {limit:g} seconds.", code="timeout"))
    except ModelError as error:
        await received.put(error)
    except (Exception, asyncio.CancelledError) as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise  # broken off by this step; otherwise the adapter was cancelled by its own library
        logger.exception("the model adapter raised")
        wrapped = ModelError(f"The model adapter raised {type(error).__name__}.", code="model_failed", retryable=False)
        wrapped.__cause__ = error
        await received.put(wrapped)
    except BaseException as error:
        await received.put(error)  # the step raises it: it must not wait for a reader that is gone


async def _failed(turn: Turn, step: Step, error: ModelError) -> Retry | None:
    """Give the step up: try again, or end the run with the provider's own code and what was said."""
    delay = retry.after(error, turn.snapshot.failed_tries)
    logger.warning(
        "model call failed: %s",
        error.run_code,
        extra={"run_id": str(turn.claim.run_id), "attempt": turn.claim.attempt, "action": "model_failed"},
    )
    given_up = takeover.abandon(step, turn.claim.attempt, error.run_code, error.message)
    if delay:
        await turn.commit(given_up.and_then(used(turn.snapshot, turn.draft)))
        return delay
    kept = keep_draft(turn.snapshot, turn.draft, MessageStatus.FAILED)
    row, run = turn.claim, turn.snapshot.run
    over = await turn.runtime.db(ending.end, row, run, RunStatus.FAILED, code=error.run_code, message=error.message)
    closed = Commit(changes=given_up.changes)
    await turn.commit(kept.and_then(closed).and_then(over))
    return None


async def _finished(turn: Turn, step: Step) -> Commit:
    """Return the entry of a finished step; without calls, it is the end of the run."""
    snapshot, run, draft = turn.snapshot, turn.snapshot.run, turn.draft
    planned = await calls.plan(turn.definition, run, step, draft.calls, turn.runtime)
    asked: list[Part] = [ToolCallPart(item.call.call_id, item.call.name, item.call.arguments_json) for item in planned]
    verdict = check_output(turn.definition, draft.outputs, has_calls=bool(planned))
    finish = {
        "status": StepStatus.FINISHED.value,
        "finished_at": NOW,
        "finish_reason": jsontext.clean_text(draft.finish_reason)[:30],
        "usage": draft.usage.to_json(),
        "error_code": OUTPUT_INVALID if verdict.fault else "",
        "error_message": verdict.fault,
    }
    opened = Step.objects.filter(pk=step.pk, status=StepStatus.STARTED)
    entry = Commit(
        events=[*draft.take(), events.StepFinished(step.number, draft.finish_reason or None)],
        run={"lost_leases": 0},
        changes=[Change(opened, finish, expect=1)],
    )
    entry = entry.and_then(used(snapshot, draft)).and_then(
        _said(snapshot, [*draft.parts, *asked], step.number, MessageStatus.COMPLETE)
    )
    if planned:
        return entry.and_then(calls.record(planned, step.number))
    if verdict.fault:
        if snapshot.output_faults < get_settings().output_retries:
            return entry
        message = f"The structured output was still not valid after {snapshot.output_faults + 1} tries."
        over = await turn.runtime.db(
            ending.end, turn.claim, run, RunStatus.FAILED, code=OUTPUT_INVALID, message=message
        )
        return entry.and_then(over)
    if verdict.value is not None:
        entry = entry.and_then(Commit(events=[events.Output(verdict.value)], run={"output": verdict.value}))
    over = await turn.runtime.db(ending.end, turn.claim, run, RunStatus.SUCCEEDED)
    return entry.and_then(over)


def keep_draft(snapshot: Snapshot, draft: Draft, status: MessageStatus) -> Commit:
    """Return the entry that keeps what a broken-off step has said; it is never shown to a model."""
    said = _said(snapshot, draft.parts, draft.step, status)
    return Commit(events=draft.take()).and_then(used(snapshot, draft)).and_then(said)


def used(snapshot: Snapshot, draft: Draft) -> Commit:
    """Return the entry that adds a step's tokens to the run's, however the step ended."""
    if draft.usage == Usage():
        return Commit()
    return Commit(
        events=[events.UsageAdded(draft.step, draft.usage.to_json())],
        run={"usage": (snapshot.run.used + draft.usage).to_json()},
    )


def _said(snapshot: Snapshot, content: list[Part], step: int, status: MessageStatus) -> Commit:
    if not content:
        return Commit()
    message = compose(
        thread_id=snapshot.run.thread_id,
        run_id=snapshot.run.pk,
        order=snapshot.run.order,
        step_order=0,
        author_kind="agent",
        author_name=snapshot.run.agent,
        content=tuple(content),
        status=status,
    )
    return Commit(events=[Saved(message, step)])
