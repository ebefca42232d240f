"""Whether a recorded call may run, ruled on when it is about to: by its approval, the access policy and the guards.

An approval binds exact bytes, the tool as it was declared, and its decider.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from ...access import SYSTEM, get_policy
from ...declaration.agent import AgentDefinition
from ...declaration.guard import Deny
from ...declaration.tool import LEAVES_NOTHING, EffectKind, Tool
from ...exceptions import ModelRetry, NotKept
from ...journal.commit import Commit, Move
from ...models import Approval, Run, ToolCall
from ...states import ApprovalStatus, ToolCallStatus
from ...values import jsontext
from ...values.logextra import log_extra
from .. import transitions
from ..runtime import Runtime
from ..snapshot import Snapshot
from . import guarding
from .calls import allowed_of, request_approval

logger = logging.getLogger("agentcore.engine")

REFUSED = "It was not run: whoever this run works for may not have it run any more. Do not ask for it again."


@dataclass(frozen=True)
class Ruling:
    """A call runs (with the approval it consumes, if it needed one), is asked for, or is refused with `fault`.

    Where a guard refuses it, `code` is the guard's.
    """

    approval: Approval | None = None
    asks: Commit | None = None
    fault: str = ""
    code: str = ""


def judge(definition: AgentDefinition, state: Snapshot) -> list[tuple[ToolCall, Ruling]]:
    """Rule on every call that is to run; asks the access policy, which may use the database."""
    tools, approvals = definition.tools_by_name, state.approvals
    return [(call, _judge(state.run, call, tools.get(call.name), approvals.get(call.pk))) for call in state.runnable]


async def guarded(
    definition: AgentDefinition, state: Snapshot, runtime: Runtime, call: ToolCall, ruling: Ruling
) -> Ruling:
    """Return the ruling once the guards have judged the call with the arguments that would run.

    A question is answered where a person has approved the call. So it is where the call has begun before, and may
    have acted: what became of that is another question.
    """
    if ruling.fault or ruling.asks:
        return ruling
    approved = ruling.approval is not None
    verdict = await guarding.before_tool(definition, state, runtime, call, approved=approved)
    if isinstance(verdict, Deny):
        return Ruling(fault=verdict.reason, code=verdict.code)
    has_begun = call.tries > 0 and call.effect not in LEAVES_NOTHING
    if verdict is None or approved or has_begun:
        return ruling
    waits = Move(call, ToolCallStatus.PENDING, {"status": ToolCallStatus.WAITING.value})
    return Ruling(
        asks=Commit(moves=[waits]).and_then(request_approval(call, allowed_of(definition, call), verdict.reason))
    )


def asks_the_policy(definition: AgentDefinition, state: Snapshot) -> bool:
    """Whether the access policy has a say: a person has approved a call, or one may do something."""
    tools = [definition.tools_by_name.get(call.name) for call in state.runnable]
    return bool(state.approvals) or any(tool is not None and tool.effect is not EffectKind.PURE for tool in tools)


def _judge(run: Run, call: ToolCall, tool: Tool | None, approval: Approval | None) -> Ruling:
    if tool is None:
        return Ruling(fault=f"The tool {call.name} is not there any more.")
    if tool.effect is not EffectKind.PURE and not get_policy().may_run(run, call):
        about = log_extra("call_refused", run.pk, run.attempt)
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
    return Ruling(asks=voided.and_then(Commit(moves=[waits]), request_approval(call, tuple(approval.allowed))))
