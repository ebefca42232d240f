"""One round of tool calls: `started` is committed before a body may run, each result after it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ...database import rows
from ...declaration.agent import AgentDefinition
from ...declaration.tool import LEAVES_NOTHING
from ...exceptions import LeaseLost
from ...failpoints import afailpoint
from ...journal import write
from ...journal.commit import Commit, Insert, Move, combined
from ...journal.fence import hold
from ...journal.lease import Lease
from ...models import Approval, Message, Run, Step, ToolCall
from ...states import ApprovalStatus, RunStatus, StepKind, StepStatus, ToolCallStatus
from ...values import events
from ...values.clock import NOW
from ...values.logextra import log_extra
from .. import application, transitions
from ..application import TRY_AGAIN, Hook
from ..runtime import Runtime
from ..snapshot import Snapshot
from .body import Work
from .calling import CallOutcome, execute
from .ruling import Ruling, asks_the_policy, guarded, judge

logger = logging.getLogger("agentcore.engine")

NOT_TOLD = f"Whether its tools may be run could not be found out. {TRY_AGAIN}"
POLICY = Hook("The access policy", code="policy_failed", message=NOT_TOLD)


@dataclass
class Round:
    """The calls of one round, and what has come of them so far."""

    definition: AgentDefinition
    state: Snapshot
    runtime: Runtime
    lease: Lease
    step: Step
    running: list[ToolCall] = field(default_factory=list)
    open: list[ToolCall] = field(default_factory=list)
    said: list[Message] = field(default_factory=list)

    @property
    def run(self) -> Run:
        """The run they belong to."""
        return self.state.run

    @property
    def attempt(self) -> int:
        """The attempt that runs them."""
        return self.lease.claim.attempt


async def tool_round(definition: AgentDefinition, state: Snapshot, runtime: Runtime, lease: Lease) -> Snapshot:
    """Run recorded calls in parallel and commit each result; what is recorded is what runs."""
    number = state.next_step
    step = rows.new(Step, run_id=state.run.pk, number=number, kind=StepKind.TOOLS, attempt=lease.claim.attempt)
    this = Round(definition, state, runtime, lease, step, open=list(state.blocked))
    await lease.commit(await _start(this))
    await afailpoint("after_tool_start")
    tasks = [asyncio.create_task(_run_one(this, call)) for call in this.running]
    try:
        if tasks:  # not `gather`: that would pass a cancel on, and the one below would cut off what a tool puts right
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in ended:
                task.result()
    finally:
        if left := [task for task in tasks if not task.done()]:
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
    finished = Move(step, StepStatus.STARTED, {"status": StepStatus.FINISHED.value, "finished_at": NOW})
    lease.stage(Commit(events=[events.StepFinished(number)], moves=[finished], run={"lost_leases": 0}))
    return state.after_tool_round(this.open, this.said)


async def _start(this: Round) -> Commit:
    """Return the commit that starts the round: approvals consumed, calls running, and results for what may not run."""
    definition, state = this.definition, this.state
    if definition.guarding("before_tool"):
        await this.lease.commit()  # what is staged is not lost, however long they take
    if asks_the_policy(definition, state):
        rulings = await application.ask(POLICY, state.run, this.runtime, judge, definition, state, read=list)
    else:
        rulings = judge(definition, state)
    rulings = [(call, await guarded(definition, state, this.runtime, call, ruling)) for call, ruling in rulings]
    started = Commit(
        events=[events.StepStarted(this.step.number, StepKind.TOOLS.value, this.attempt)],
        inserts=[Insert(this.step, {"started_at": NOW})],
        starts=True,
    )
    return combined([started, *(_begin(this, call, ruling) for call, ruling in rulings)])


def _begin(this: Round, call: ToolCall, ruling: Ruling) -> Commit:
    if ruling.fault and call.tries and call.effect not in LEAVES_NOTHING:
        doubtful = transitions.unverified(call, f"{ruling.fault} {transitions.INTERRUPTED}")
        this.open.append(call)
        return doubtful
    if ruling.fault:
        refused = transitions.refuse_call(this.run, call, ruling.fault, ruling.code)
        this.said.extend(refused.messages)
        return refused
    if ruling.asks is not None:
        this.open.append(call)
        return ruling.asks
    # Its code may have been deployed anew since it was asked for: what is run is what a take-over goes by.
    values = {
        "status": ToolCallStatus.RUNNING.value,
        "effect": this.definition.tools_by_name[call.name].effect.value,
        "attempt": this.attempt,
        "tries": call.tries + 1,
        "worker": this.runtime.worker[:100],
        "started_at": NOW,
    }
    begins = Move(call, ToolCallStatus.PENDING, values)
    approval = ruling.approval
    consumed = [_consume(approval)] if approval is not None and approval.consumed_at is None else []
    this.running.append(call)
    return Commit(moves=[begins, *consumed])


def _consume(approval: Approval) -> Move:
    """Consumed in the transaction that sets the call running: an approval never serves twice."""
    approved = ApprovalStatus.APPROVED
    return Move(approval, approved, {"status": approved.value, "consumed_at": NOW}, unset="consumed_at")


async def _run_one(this: Round, call: ToolCall) -> None:
    """Run one call to its result; commit it, or leave those that come last to go with the end of the round."""
    tool = this.definition.tools_by_name[call.name]
    approved = call.pk in this.state.approvals  # it runs, so whoever was asked has agreed
    record = partial(_record, this, call)
    outcome = await execute(Work(this.run, call, tool, approved, this.runtime, this.lease.commit, record))
    about = log_extra("tool_finished", this.run.pk, this.attempt)
    logger.info("tool %s %s", call.name, outcome.status.value, extra=about)
    result = outcome.recorded
    if result is None:
        await afailpoint("after_tool_return")
        result = _result(this.run, call, outcome)
    this.said.extend(result.messages)
    this.running.remove(call)
    if outcome.status is ToolCallStatus.EFFECT_UNVERIFIED:
        this.open.append(call)
    if outcome.recorded is not None:
        await afailpoint("after_result_commit")
        return
    this.lease.stage(result, point="after_result_commit")
    await asyncio.sleep(0)  # the results of calls that end at the same moment are one commit
    if this.running:
        await this.lease.commit()


def _record(this: Round, call: ToolCall, value: Any, shown: Sequence[events.Event]) -> Commit:
    """Write the result of a call that has succeeded, and what it showed before, into the transaction of its body."""
    held = hold(this.run.pk, (RunStatus.RUNNING,))
    if held is None or held.attempt != this.attempt:
        raise LeaseLost
    result = Commit(events=shown).and_then(_result(this.run, call, CallOutcome(ToolCallStatus.SUCCEEDED, value)))
    write.record(held, result)
    return result


def _result(run: Run, call: ToolCall, outcome: CallOutcome) -> Commit:
    if outcome.status is ToolCallStatus.EFFECT_UNVERIFIED:
        return transitions.unverified(call, outcome.error)
    return transitions.close_call(run, call, outcome.status, result=outcome.result, error=outcome.error)
