"""Whether a recorded call may run now: an approval binds exact bytes, the tool as it was declared, and its decider."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from ...access import SYSTEM, get_policy
from ...declaration.agent import AgentDefinition
from ...declaration.tool import EffectKind, Tool
from ...exceptions import ModelRetry, NotKept
from ...journal.commit import Commit, Move
from ...models import Approval, Run, ToolCall
from ...states import ApprovalStatus, ToolCallStatus
from ...values import jsontext
from .. import transitions
from .calls import request_approval

logger = logging.getLogger("agentcore.engine")

REFUSED = "It was not run: whoever this run works for may not have it run any more. Do not ask for it again."


@dataclass(frozen=True)
class Ruling:
    """A call runs (with the approval it consumes, if it needed one), is asked for again, or fails with `fault`."""

    approval: Approval | None = None
    asks_again: Commit | None = None
    fault: str = ""


def judge(
    run: Run, calls: Sequence[ToolCall], definition: AgentDefinition, approvals: Mapping[UUID, Approval]
) -> list[Ruling]:
    """Rule on every call of a round; asks the access policy, which may use the database."""
    return [_judge(run, call, definition.tools_by_name.get(call.name), approvals.get(call.pk)) for call in calls]


def asks_the_policy(calls: Sequence[ToolCall], definition: AgentDefinition, approvals: Mapping[UUID, Approval]) -> bool:
    """Whether the access policy has a say: a person has approved a call, or one may do something."""
    tools = [definition.tools_by_name.get(call.name) for call in calls]
    return bool(approvals) or any(tool is not None and tool.effect is not EffectKind.PURE for tool in tools)


def _judge(run: Run, call: ToolCall, tool: Tool | None, approval: Approval | None) -> Ruling:
    if tool is None:
        return Ruling(fault=f"The tool {call.name} is not there any more.")
    if tool.effect is not EffectKind.PURE and not get_policy().may_run(run, call):
        about = {"run_id": str(run.pk), "attempt": run.attempt, "action": "call_refused"}
        logger.warning("the access policy refuses tool %s for %s", call.name, run.started_by or "nobody", extra=about)
        return Ruling(fault=REFUSED)
    if approval is None:
        needs = tool.needs_approval is True
        return Ruling(fault="This tool needs an approval, and there is none.") if needs else Ruling()
    if approval.status != ApprovalStatus.APPROVED:
        return Ruling(fault="This call was not approved.")
    if not _binds(approval, call):
        return Ruling(fault="The call is not the one that was approved. Ask again.")
    if not _may_decide(approval):
        return Ruling(fault="Whoever approved this call may not do so any more. Ask again.")
    if tool.schema_digest != call.schema_digest:
        return _ask_again(call, tool, approval)
    return Ruling(approval)


def _binds(approval: Approval, call: ToolCall) -> bool:
    """Compute the digest again, over the bytes about to run."""
    fresh = call.digest_of(approval.arguments)
    return fresh == approval.digest and call.arguments == approval.effective_arguments


def _may_decide(approval: Approval) -> bool:
    """Whether its decider still may: a permission lost since voids it."""
    by = approval.decided_by
    return approval.decided_by_name == repr(SYSTEM) if by is None else get_policy().may_decide(by, approval)


def _ask_again(call: ToolCall, tool: Tool, approval: Approval) -> Ruling:
    """Void an approval of a tool that is declared otherwise now, and ask for one of the call as it would run.

    One that has been used was for an attempt that was interrupted, and cannot be taken back: a person says what
    became of that attempt first.
    """
    if approval.consumed_at is not None:
        return Ruling(fault=f"The tool {call.name} has changed since it was interrupted.")
    try:
        arguments = jsontext.canonical(tool.validate(call.arguments_json))
    except (ModelRetry, NotKept):
        return Ruling(fault="The tool does not take these arguments any more. Ask again.")
    reason = f"The tool {call.name} has changed since."
    voided = transitions.void(approval, ApprovalStatus.CANCELED, reason)
    digest = call.digest_of(arguments, schema_digest=tool.schema_digest)
    values = {
        "status": ToolCallStatus.WAITING.value,
        "arguments": arguments,
        "schema_digest": tool.schema_digest,
        "digest": digest,
    }
    waits = Move(call, ToolCallStatus.PENDING, values)
    waits.apply()  # the approval to ask for is one of the call as it would run
    return Ruling(asks_again=voided.and_then(Commit(moves=[waits]), request_approval(call)))
