"""One worker's work on one claim: step after step, from what the rows said, until the run ends or is given back."""

from __future__ import annotations

import asyncio
import logging
import time
from enum import StrEnum

from ..conf import get_settings
from ..database.outage import is_outage
from ..declaration.agent import AgentDefinition
from ..exceptions import CancelRequested, InsideTransaction, LeaseLost, RunError, UserError
from ..failpoints import afailpoint
from ..journal.commit import Claim, Commit, Moved, NotClaimed
from ..models import Run
from ..states import MessageStatus, RunStatus
from ..values.functions import kind_of
from ..values.ids import uuid7
from ..values.logextra import log_extra
from . import limits, snapshot, transitions
from .runtime import Runtime
from .snapshot import DRAINED, WORKER_LOST, Snapshot
from .steps import answer, choosing, model, prompt, tools
from .steps.draft import Draft
from .steps.turn import Turn

logger = logging.getLogger("agentcore.engine")

MOST_LOOKS = 20
LONGEST_PAUSE = 5.0
"""Seconds that a worker waits itself before a model call; for longer it gives the run back."""
APPLICATION_WRONG = "The application has a mistake, so the run could not go on. Tell whoever runs this site."


class Outcome(StrEnum):
    """Why a worker let go of a run, or did not claim it."""

    NOTHING = "nothing"  # not claimed: there is nothing to do, or another worker is doing it
    ENDED = "ended"
    SUSPENDED = "suspended"
    RELEASED = "released"
    LOST = "lost"
    SUSPECT = "suspect"  # not claimed: only a process that drives nothing else may drive it
    OTHER_VERSION = "other_version"  # not claimed: this process has no version of the agent that may drive it


class Drive:
    """One worker's work on one claim.

    Where it `trusts_its_look`, the history it has read is proved by the claim: both are
    one commit. Otherwise it is read after the claim.
    """

    def __init__(
        self,
        state: Snapshot,
        definition: AgentDefinition,
        runtime: Runtime,
        *,
        trusts_its_look: bool = True,
    ) -> None:
        self.state = state
        self.definition = definition
        self.runtime = runtime
        self.began = time.monotonic()
        self.draft: Draft | None = None
        self.offered: AgentDefinition | None = None
        self.began_suspect = state.suspect
        self.steps_before = state.steps_finished
        opens = prompt.opens_its_thread(state.run)
        self.reads_first = opens or (trusts_its_look and not state.left_open)
        thread_seq = state.thread_seq if self.reads_first and not opens else None
        self.claim = Claim.of(state.run, runtime.worker, alone=runtime.alone, thread_seq=thread_seq)
        self.lease = runtime.heartbeat.lease(self.claim)

    @property
    def suspect(self) -> bool:
        """Whether the run has cost a worker, and no step has been committed since."""
        return self.began_suspect and not self.has_advanced

    @property
    def has_advanced(self) -> bool:
        """Whether a step has been finished since the claim."""
        return self.state.steps_finished > self.steps_before

    async def go(self) -> Outcome:
        """Drive the run, and turn whatever stops it into its end."""
        with self.lease:
            try:
                return await self._steps(await self._claimed())
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if self.lease.reason is not None and task is not None:
                    task.uncancel()
                    reason: BaseException = self.lease.reason
                elif task is None or task.cancelling():
                    self.lease.stop_interrupting()
                    if not self.runtime.is_breaking_down:
                        await asyncio.shield(self._hand_over())
                    raise
                else:  # code of the application's let one out: handed over, the run would meet it again, for ever
                    reason = RuntimeError("a CancelledError was raised, but nobody cancelled the run")
                    reason.__cause__ = error
            except (CancelRequested, Exception) as error:
                reason = error
            self.lease.stop_interrupting()
            return await self._stop(reason)

    async def _claimed(self) -> Snapshot:
        """Stage the claim, with the history it rests on; or make it, settle what a dead attempt left open, and read."""
        claim, state = self.claim, self.state
        if self.reads_first:
            state = await prompt.with_history(state, self.definition.recent_messages, self.runtime)
        await afailpoint("after_look")
        self.lease.stage(transitions.begun(claim), point="after_claim")
        if self.reads_first:
            return state.with_run(attempt=claim.attempt)
        left = None
        if state.left_open:
            still_runs = self.runtime.threads.still_runs
            left = await self.runtime.read(transitions.left_open, claim.run_id, claim.attempt, WORKER_LOST, still_runs)
        await self.lease.commit(*([left] if left else []))
        return await self._read()

    async def _read(self) -> Snapshot:
        """Read the rows again; everything this drive has to say is committed."""
        self.offered = None
        state = await self.runtime.read(snapshot.load, self.claim.run_id)
        return await prompt.with_history(state, self.definition.recent_messages, self.runtime)

    async def _steps(self, state: Snapshot) -> Outcome:
        while True:
            self.state = state
            if state.run.cancel_requested_at is not None:
                raise CancelRequested
            delay = state.retry_in
            if delay > LONGEST_PAUSE:
                return await self._release("retry_delay", delay)
            if delay:
                await self.runtime.pause(delay)
            if self.runtime.draining:
                return await self._release(DRAINED, delay)
            # A slice has a step at least: where the claim takes longer than that, the run would never get on.
            if self.has_advanced and time.monotonic() - self.began > get_settings().slice_seconds:
                return await self._release("slice_over")
            step = await self._one(state)
            if isinstance(step, Outcome):
                return step
            state = step

    async def _one(self, state: Snapshot) -> Snapshot | Outcome:
        """Take the one step that is due; returns how the run stands then, or an outcome when the worker lets go."""
        state = await limits.check(state, self.definition.limits, self.runtime)
        if state.blocked and not state.runnable:
            return await self._suspend(state)
        # A round runs what its model was offered; where somebody has decided meanwhile, the sources are asked again.
        offered, self.offered = self.offered, None
        definition = offered if offered and state.runnable else await self._with_tools(state)
        if state.runnable:
            return await tools.tool_round(definition, state, self.runtime, self.lease)
        about = {"run_id": self.claim.run_id, "attempt": self.claim.attempt}
        self.draft = Draft(state.next_step, about, guarded=bool(definition.guarding("after_answer")))
        then = await model.model_step(Turn(definition, state, self.runtime, self.lease, self.draft))
        self.draft, self.offered = None, definition
        return Outcome.ENDED if then is None else then

    async def _with_tools(self, state: Snapshot) -> AgentDefinition:
        """Return the agent as it is for this step; what is staged is committed before the application is asked."""
        if self.definition.tool_sources:
            await self.lease.commit()
        return await choosing.with_tools(self.definition, state, self.runtime)

    async def _suspend(self, state: Snapshot) -> Snapshot | Outcome:
        """Make the run wait; where somebody has decided meanwhile, read the rows again and go on."""
        await self.lease.commit()
        await afailpoint("before_suspend")
        try:
            await self.lease.commit(transitions.waiting(self.claim, state.blocked, suspect=self.suspect))
        except Moved:
            return await self._read()
        await afailpoint("at_wait")
        return Outcome.SUSPENDED

    async def _release(self, reason: str, delay: float = 0.0) -> Outcome:
        await self.lease.commit()
        await afailpoint("before_release")
        await self.lease.commit(transitions.released(self.claim, reason, suspect=self.suspect, delay=delay))
        return Outcome.RELEASED

    async def _hand_over(self) -> None:
        """Give the run back in the middle of a step: nothing has failed, and its next worker starts that step again."""
        await self.lease.settled()
        if not self.lease.claimed:
            return
        await self.lease.commit()
        claim, still_runs = self.claim, self.runtime.threads.still_runs
        left = await self.runtime.read(transitions.left_open, claim.run_id, claim.attempt, DRAINED, still_runs)
        released = transitions.released(claim, DRAINED, suspect=self.suspect)
        try:
            await self.lease.commit(*([left] if left else []), released)
        except CancelRequested:
            await self._end()
        except (LeaseLost, Moved):
            return  # whoever takes it over settles what is left

    async def _stop(self, reason: BaseException) -> Outcome:
        """End the run for `reason`, keeping what a broken-off step has said; what is no end of a run is raised."""
        if isinstance(reason, CancelRequested):
            await self._end()
        elif not isinstance(reason, Exception) or self._is_for_others(reason):
            raise reason
        elif isinstance(reason, RunError):
            await self._end(reason)
        elif isinstance(reason, UserError):
            await self._end(RunError(APPLICATION_WRONG, code=reason.code, detail=reason.message))
        else:
            await self._end(self._internal(reason))
        return Outcome.ENDED

    def _is_for_others(self, error: Exception) -> bool:
        """Whether the run has not failed: it was never claimed, the database is away, or this process must let go."""
        unclaimed = isinstance(error, NotClaimed) or (isinstance(error, Moved) and not self.lease.claimed)
        return unclaimed or isinstance(error, (InsideTransaction, *self.runtime.gives_up_on)) or is_outage(error)

    async def _end(self, failure: RunError | None = None) -> None:
        """End the run as its rows stand now, canceled where nothing failed; where a decision lands, look again."""
        await self._say_what_is_staged()
        for _ in range(MOST_LOOKS):
            state = await self.runtime.read(snapshot.load, self.claim.run_id)
            if state.run.terminal:
                return  # the commit that was under way when the work was interrupted ended it
            over = await self.runtime.read(_end_of, self.claim, state.run, failure)
            try:
                await afailpoint("before_finish")
                await self.lease.commit(self._kept(state, failure), over)
            except Moved:
                continue
            return
        raise LeaseLost  # rows that never fit: the lease runs out, and whoever takes over settles them first

    async def _say_what_is_staged(self) -> None:
        """Commit what is staged; what the database refuses must not keep the run from its end."""
        await self.lease.settled()
        try:
            await self.lease.commit()
        except Exception as error:
            if self._is_for_others(error):
                raise
            await self._say_one_by_one(self.lease.forget())

    async def _say_one_by_one(self, staged: list[Commit]) -> None:
        """Commit what could not be committed together, without what the database refuses."""
        if not self.lease.claimed:  # then the first is what the claim says: it was staged first
            await self.lease.commit(staged.pop(0))
        for commit in staged:
            try:
                await self.lease.commit(commit)
            except Exception as error:
                if self._is_for_others(error):
                    raise
                about = log_extra("staged_lost", self.claim.run_id, self.claim.attempt)
                logger.exception("what was staged could not be committed", extra=about)

    def _kept(self, state: Snapshot, failure: RunError | None) -> Commit:
        """Return what the open step has said; a step that was committed meanwhile has said it itself."""
        if self.draft is None or state.open_step is None or state.open_step.number != self.draft.step:
            return Commit()
        try:
            return answer.keep_draft(state, self.draft, MessageStatus.FAILED if failure else MessageStatus.CANCELED)
        except Exception:
            about = log_extra("draft_not_kept", self.claim.run_id, self.claim.attempt)
            logger.exception("what the broken-off step has said could not be kept", extra=about)
            return Commit()  # a run that could not end would be driven, and paid for, again

    def _internal(self, reason: Exception) -> RunError:
        """Log a defect with a reference, and say no more than that to whoever sees the run."""
        reference = uuid7().hex[-8:]
        logger.error(
            "the engine raised; reference %s",
            reference,
            exc_info=reason,
            extra=log_extra("internal_error", self.claim.run_id, self.claim.attempt),
        )
        failure = RunError(
            f"Something went wrong inside the run (reference {reference}). Try again; if it fails again, give the "
            "reference to whoever runs this site.",
            code="internal_error",
            detail=f"{kind_of(reason)}; the worker's log has more under the reference {reference}.",
        )
        failure.__cause__ = reason
        return failure


def _end_of(claim: Claim, run: Run, failure: RunError | None) -> Commit:
    if failure is None:
        return transitions.end(claim, run, RunStatus.CANCELED, code="canceled", message=run.cancel_reason)
    code, message = failure.run_code, failure.shown
    return transitions.end(claim, run, RunStatus.FAILED, code=code, message=message, detail=failure.detail)
