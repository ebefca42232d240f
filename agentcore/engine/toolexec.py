"""One round of tool calls: `started` is committed before a body may run, each result after it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from .. import events
from ..access import SYSTEM, get_policy
from ..clock import NOW
from ..definition import AgentDefinition
from ..models import Approval, Run, Step, ToolCall
from ..models.approval import approval_digest
from ..states import ApprovalStatus, StepKind, StepStatus, ToolCallStatus
from . import journal, takeover
from .claim import Claim
from .ending import close_call
from .journal import Change, Commit, Insert, Move
from .running import Outcome, Work, execute
from .runtime import Runtime

logger = logging.getLogger("agentcore.engine")


@dataclass(frozen=True)
class Round:
    """The calls of one round, and the step that records it."""

    claim: Claim
    definition: AgentDefinition
    run: Run
    step: Step
    calls: tuple[ToolCall, ...]
    runtime: Runtime

    async def commit(self, entry: Commit) -> None:
        """Commit under the claim."""
        await self.runtime.db(journal.commit, self.claim, entry)


async def tool_round(
    claim: Claim, definition: AgentDefinition, run: Run, number: int, calls: Sequence[ToolCall], runtime: Runtime
) -> None:
    """Run recorded calls in parallel and commit each result; what is recorded is what runs."""
    step = Step(run_id=run.pk, number=number, kind=StepKind.TOOLS, attempt=claim.attempt)
    this = Round(claim, definition, run, step, tuple(calls), runtime)
    refusals = await runtime.db(_start, this)
    runnable = [call for call in this.calls if call.pk not in refusals]
    running = [asyncio.create_task(_run_one(this, call)) for call in runnable]
    try:
        for task in asyncio.as_completed(running):
            await task
    finally:
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    finished = Change(
        Step.objects.filter(pk=step.pk, status=StepStatus.STARTED),
        {"status": StepStatus.FINISHED.value, "finished_at": NOW},
        expect=1,
    )
    await this.commit(Commit(events=[events.StepFinished(number)], changes=[finished], run={"lost_leases": 0}))


def _start(this: Round) -> set[object]:
    """Commit the start of the round: approvals consumed, calls running; return the calls that may not run."""
    asked = list(Approval.objects.filter(tool_call__in=this.calls).select_related("decided_by"))
    gated = {approval.tool_call_id for approval in asked}
    approved = {item.tool_call_id: item for item in asked if item.status == ApprovalStatus.APPROVED}
    entry = Commit(
        events=[events.StepStarted(this.step.number, StepKind.TOOLS.value, this.claim.attempt)],
        inserts=[Insert(this.step, {"started_at": NOW})],
        starts=True,
    )
    refused: set[object] = set()
    for call in this.calls:
        approval = approved.get(call.pk)
        fault = _may_not_run(this, call, approval, gated=call.pk in gated)
        if fault:
            refused.add(call.pk)
            entry = entry.and_then(close_call(this.run, call, ToolCallStatus.FAILED, error=fault))
            continue
        entry = entry.and_then(_begin(this, call, approval))
    journal.commit(this.claim, entry)
    return refused


def _begin(this: Round, call: ToolCall, approval: Approval | None) -> Commit:
    started = {
        "status": ToolCallStatus.RUNNING.value,
        "attempt": this.claim.attempt,
        "tries": call.tries + 1,
        "started_at": NOW,
    }
    begins = Move(call, ToolCallStatus.PENDING, started)
    changes = []
    if approval and call.tries == 0:
        # Consumed in the transaction that sets the call running: an approval never serves twice.
        unused = Approval.objects.filter(pk=approval.pk, status=ApprovalStatus.APPROVED, consumed_at=None)
        changes.append(Change(unused, {"consumed_at": NOW}, expect=1))
    call.status, call.tries, call.attempt = ToolCallStatus.RUNNING, call.tries + 1, this.claim.attempt
    return Commit(changes=changes, moves=[begins])


def _may_not_run(this: Round, call: ToolCall, approval: Approval | None, *, gated: bool) -> str:
    """Return why a call may not run after all, or nothing.

    The digest is computed again over the bytes about to run, with the tool as it is
    declared now: changed arguments or a changed tool void the approval. So does a
    decider who has lost the permission since.
    """
    tool = this.definition.tools.get(call.name)
    if tool is None:
        return f"The tool {call.name} is not there any more."
    if not gated:
        return "" if tool.needs_approval is not True else "This tool needs an approval, and there is none."
    if approval is None:
        return "This call was not approved."
    fresh = approval_digest(
        run_id=call.run_id,
        call_id=call.call_id,
        tool=call.name,
        schema_digest=tool.schema_digest,
        arguments=approval.arguments,
    )
    if fresh != approval.digest or call.arguments != approval.effective_arguments:
        return "The call is not the one that was approved. Ask again."
    by = approval.decided_by
    allowed = approval.decided_by_name == repr(SYSTEM) if by is None else get_policy().may_decide(by, approval)
    if not allowed:
        return "Whoever approved this call may not do so any more. Ask again."
    return ""


async def _run_one(this: Round, call: ToolCall) -> None:
    """Run one call to its result and commit it."""
    tool = this.definition.tools[call.name]
    outcome = await execute(Work(this.run, call, tool, this.runtime, this.commit))
    logger.info(
        "tool %s %s",
        call.name,
        outcome.status.value,
        extra={"run_id": str(this.run.pk), "attempt": this.claim.attempt, "action": "tool_finished"},
    )
    await this.commit(_result(this.run, call, outcome))


def _result(run: Run, call: ToolCall, outcome: Outcome) -> Commit:
    if outcome.status is ToolCallStatus.EFFECT_UNVERIFIED:
        return takeover.unverified(call, outcome.error)
    return close_call(run, call, outcome.status, result=outcome.result, error=outcome.error)
