"""The loop: load the rows, decide the next step, run it, commit it, until the run ends, waits or is given back."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from django.db import InterfaceError, OperationalError

from .. import registry
from ..conf import get_settings
from ..definition import AgentDefinition
from ..exceptions import CancelRequested, LeaseLost, LimitReached, RunError, UserError
from ..ids import uuid7
from ..states import MessageStatus, RunStatus
from . import ending, journal, snapshot, suspend, takeover, toolexec, turn
from .claim import Claim
from .draft import Draft
from .runtime import Runtime
from .snapshot import Snapshot
from .turn import Turn
from .watch import Watch

logger = logging.getLogger("agentcore.engine")


INSIDE_A_TRANSACTION = (
    "A run cannot be driven inside a transaction: each step must be committed as it happens, or a rollback would "
    "let its tools run again. Drive it after the commit, for instance from transaction.on_commit()."
)


MOST_LOOKS = 20


class Outcome(StrEnum):
    """Why a worker let go of a run."""

    NOTHING = "nothing"
    ENDED = "ended"
    SUSPENDED = "suspended"
    RELEASED = "released"
    LOST = "lost"


async def advance(run_id: UUID, runtime: Runtime) -> Outcome:
    """Claim a run and drive it as far as it goes now; a no-op where there is nothing to do."""
    try:
        claim = await runtime.db(takeover.claim, run_id, runtime.worker)
    except RuntimeError as error:
        # Django has no class of its own for a durable transaction inside another one.
        if "durable" not in str(error):
            raise
        raise UserError(INSIDE_A_TRANSACTION) from error
    if claim is None:
        return Outcome.NOTHING
    about = {"run_id": str(run_id), "attempt": claim.attempt}
    logger.info("claimed", extra={**about, "action": "claimed"})
    try:
        outcome = await _Drive(claim, runtime).go()
    except LeaseLost:
        outcome = Outcome.LOST
    except (OperationalError, InterfaceError):
        # The database is away: the lease runs out, and whoever finds the run then takes over.
        logger.warning("dropped: the database did not answer", extra={**about, "action": "dropped"}, exc_info=True)
        outcome = Outcome.LOST
    logger.info("let go: %s", outcome.value, extra={**about, "action": "let_go"})
    return outcome


@dataclass
class _Drive:
    """One worker's work on one claim."""

    claim: Claim
    runtime: Runtime
    began: float = field(default_factory=time.monotonic)
    draft: Draft | None = None

    async def go(self) -> Outcome:
        """Drive the run, and turn whatever stops it into its end."""
        async with Watch(self.claim, self.runtime) as watch:
            try:
                return await self._steps()
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if watch.reason is None or task is None:
                    raise
                task.uncancel()
                reason: BaseException = watch.reason
            except (CancelRequested, RunError, UserError) as error:
                reason = error
            except Exception as error:
                if isinstance(error, (OperationalError, InterfaceError, *self.runtime.gives_up_on)):
                    raise
                reason = self._internal(error)
            await watch.stop()
            return await self._stop(reason)

    async def _steps(self) -> Outcome:
        definition = self.runtime.definition
        while True:
            state = await self.runtime.db(snapshot.load, self.claim.run_id)
            definition = definition or registry.get(state.run.agent)
            if state.run.cancel_requested_at is not None:
                raise CancelRequested
            if state.run.terminal:
                return Outcome.ENDED
            if time.monotonic() - self.began > get_settings().slice_seconds:
                await self.runtime.db(suspend.release, self.claim, "slice_over")
                return Outcome.RELEASED
            outcome = await self._one(state, definition)
            if outcome is not None:
                return outcome

    async def _one(self, state: Snapshot, definition: AgentDefinition) -> Outcome | None:
        """Take the one step the rows call for; returns an outcome when the worker lets go."""
        if state.runnable:
            await toolexec.tool_round(self.claim, definition, state.run, state.next_step, state.runnable, self.runtime)
            return None
        if state.blocked:
            try:
                await self.runtime.db(suspend.suspend, self.claim, state.blocked)
            except journal.Moved:
                return None
            return Outcome.SUSPENDED
        _check_limits(state, definition)
        return await self._model_step(state, definition)

    async def _model_step(self, state: Snapshot, definition: AgentDefinition) -> Outcome | None:
        self.draft = Draft(state.next_step)
        delay = await turn.model_step(Turn(self.claim, definition, state, self.runtime, self.draft))
        self.draft = None
        if delay is None:
            return None
        if delay.keeps_worker:
            await asyncio.sleep(delay.delay)
            return None
        await self.runtime.db(suspend.release, self.claim, "retry_delay", delay.delay)
        return Outcome.RELEASED

    async def _stop(self, reason: BaseException) -> Outcome:
        """End the run for `reason`, keeping what a broken-off step has said; what is no end of a run is raised."""
        if isinstance(reason, CancelRequested):
            await self.runtime.db(self._end, RunStatus.CANCELED, MessageStatus.CANCELED, "canceled", "")
        elif isinstance(reason, RunError):
            await self.runtime.db(self._end, RunStatus.FAILED, MessageStatus.FAILED, reason.run_code, reason.message)
        elif isinstance(reason, UserError):
            await self.runtime.db(self._end, RunStatus.FAILED, MessageStatus.FAILED, reason.code, reason.message)
        else:
            raise reason
        return Outcome.ENDED

    def _end(self, status: RunStatus, kept_as: MessageStatus, code: str, message: str) -> None:
        """End the run as its rows stand now; where a decision lands at the same moment, look again."""
        for _ in range(MOST_LOOKS):
            state = snapshot.load(self.claim.run_id)
            if state.run.terminal:
                return  # the commit that was under way when the work was interrupted ended it
            said = message if status is RunStatus.FAILED else state.run.cancel_reason
            over = ending.end(self.claim, state.run, status, code=code, message=said)
            try:
                journal.commit(self.claim, self._kept(state, kept_as).and_then(over))
            except journal.Moved:
                continue
            return
        raise LeaseLost  # rows that never fit: the lease runs out, and whoever takes over settles them first

    def _kept(self, state: Snapshot, kept_as: MessageStatus) -> journal.Commit:
        """Return what the open step has said; a step that was committed meanwhile has said it itself."""
        if self.draft is None or state.open_step != self.draft.step:
            return journal.Commit()
        return turn.keep_draft(state, self.draft, kept_as)

    def _internal(self, error: Exception) -> RunError:
        """Log a defect with a reference, and say no more than that to whoever sees the run."""
        reference = uuid7().hex[-8:]
        logger.exception(
            "the engine raised; reference %s",
            reference,
            extra={"run_id": str(self.claim.run_id), "attempt": self.claim.attempt, "action": "internal_error"},
        )
        failure = RunError(
            f"Something went wrong inside the run (reference {reference}). Retry it; if it fails again, "
            "look for the reference in the worker's log.",
            code="internal_error",
        )
        failure.__cause__ = error
        return failure


def _check_limits(state: Snapshot, definition: AgentDefinition) -> None:
    """Raise `LimitReached`, with the limit's own code, where a run has used one up."""
    limits = definition.limits
    if state.steps_finished >= limits.max_steps:
        raise LimitReached(f"The run has taken its {limits.max_steps} steps.", code="limit_steps")
    if limits.max_tokens is not None and state.run.used.total_tokens >= limits.max_tokens:
        raise LimitReached(f"The run has used its {limits.max_tokens} tokens.", code="limit_tokens")
    if limits.max_seconds is not None and state.seconds_since_start >= limits.max_seconds:
        raise LimitReached(f"The run has taken its {limits.max_seconds:g} seconds.", code="limit_time")
