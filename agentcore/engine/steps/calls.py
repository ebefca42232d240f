"""What a model asked for: checked and recorded before anything runs, and judged again when it is about to run.

An approval binds exact bytes, the tool as it was declared, and its decider.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ...access import SYSTEM, get_policy
from ...conf import get_settings
from ...database import rows
from ...declaration.agent import AgentDefinition
from ...declaration.guard import Deny
from ...declaration.model import CallRequested
from ...declaration.tool import LEAVES_NOTHING, EffectKind, Tool
from ...exceptions import ModelRetry, NotKept
from ...journal.commit import Commit, Insert, Move, combined
from ...models import Approval, Run, Step, ToolCall
from ...states import ApprovalStatus, ToolCallStatus
from ...values import events, jsontext
from ...values.clock import NOW, Later
from ...values.ids import uuid7
from ...values.logextra import log_extra
from .. import application, transitions
from ..application import TRY_AGAIN, Hook
from ..runtime import Runtime
from ..snapshot import Snapshot
from . import guarding, intake

logger = logging.getLogger("agentcore.engine")

NOT_TOLD = f"Whether a person must agree could not be found out. {TRY_AGAIN}"
ALLOWED = ("approve", "deny", "edit")
UNEDITED = ("approve", "deny")
"""What may be decided of a call whose tool is not known where decisions are taken."""
DAY = 86_400.0
REFUSED = "It was not run: whoever this run works for may not have it run any more. Do not ask for it again."


@dataclass(frozen=True)
class Planned:
    """A call to record: it runs at once, it waits for a person, or it is refused with `fault`.

    Where a guard denies it, `code` is the guard's; where one has a person asked, `because` says why. The person may
    decide what is `allowed`.
    """

    call: ToolCall
    fault: str
    code: str = ""
    because: str = ""
    allowed: tuple[str, ...] = ALLOWED


@dataclass(frozen=True)
class PlanContext:
    """What `needs_approval` may look at before the call exists; see `tools.ToolContext`."""

    run_id: UUID
    thread_id: UUID
    user: Any
    call_id: str
    idempotency_key: str
    attempt: int
    cancelled: bool = False

    def progress(self, value: Any) -> None:
        """Nothing runs yet, so there is no progress to show."""


async def plan(
    definition: AgentDefinition,
    state: Snapshot,
    step: Step,
    requested: Sequence[CallRequested],
    runtime: Runtime,
    *,
    refusal: str = "",
) -> list[Planned]:
    """Check every call a model asked for, and ask the guards and its tool whether a person must approve it.

    With a `refusal`, none of them is run, and the model is told that.
    """
    run, planned = state.run, []
    for position, request in enumerate(requested):
        tool = definition.tools_by_name.get(request.name)
        checked, fault = await _check(tool, request, run, runtime)
        fault = refusal or fault
        call = _new_call(run, step, position, request.name, checked, tool)
        if tool is None or fault:
            planned.append(Planned(call, fault))
            continue
        verdict = await guarding.before_tool(definition, state, runtime, call)
        if isinstance(verdict, Deny):
            planned.append(Planned(call, verdict.reason, verdict.code))
            continue
        because = "" if verdict is None else verdict.reason
        if because or await _needs_approval(tool, checked, run, call, runtime):
            call.status = ToolCallStatus.WAITING
        planned.append(Planned(call, "", because=because, allowed=_allowed(definition, call)))
    return planned


def record(run: Run, planned: Sequence[Planned]) -> Commit:
    """Return the commit that records the calls, asks for approvals, and answers what was refused."""
    commits = []
    for item in planned:
        call, waits = item.call, item.call.status == ToolCallStatus.WAITING
        arguments = call.arguments_json
        asked = events.ToolCall(call.step.number, call.call_id, call.name, arguments, str(call.effect), waits)
        commits.append(Commit(events=[asked], inserts=[Insert(call)]))
        if waits:
            commits.append(_request_approval(call, item.allowed, item.because))
        if item.fault:
            commits.append(transitions.refuse_call(run, call, item.fault, item.code))
    return combined(commits)


def _allowed(definition: AgentDefinition, call: ToolCall) -> tuple[str, ...]:
    return UNEDITED if call.name in definition.by_run else ALLOWED


def _request_approval(call: ToolCall, allowed: tuple[str, ...], because: str = "") -> Commit:
    """Return the commit that asks for a decision on a call's exact arguments, and says why where a guard asks."""
    because = jsontext.clean_text(because)
    expires = Later(get_settings().approval_days * DAY)
    approval = Approval(
        id=uuid7(),
        run_id=call.run_id,
        tool_call=call,
        status=ApprovalStatus.PENDING,
        arguments=call.arguments,
        digest=call.digest,
        allowed=list(allowed),
        because=because,
    )
    row = Insert(approval, {"requested_at": NOW, "expires_at": expires})
    asked = events.ApprovalRequest(
        str(approval.pk),
        call.call_id,
        call.name,
        call.arguments_json,
        call.digest,
        expires,
        allowed,
        because or None,
    )
    pending = ApprovalStatus.PENDING.value
    seen = events.ThreadApproval(str(approval.pk), str(call.run_id), call.call_id, call.name, pending, "")
    return Commit(events=[asked], inserts=[row], thread_events=[seen])


def _new_call(
    run: Run, step: Step, position: int, name: str, checked: Mapping[str, Any], tool: Tool | None
) -> ToolCall:
    """Return the row to record; ids are ours, for providers repeat theirs within a thread."""
    key = uuid7()
    call = rows.new(
        ToolCall,
        id=key,
        run_id=run.pk,
        position=position,
        call_id=f"call_{key.hex}",
        name=jsontext.clean_text(name)[:64],
        arguments=jsontext.canonical(checked),
        schema_digest=tool.schema_digest if tool else "",
        effect=tool.effect if tool else EffectKind.PURE,
        status=ToolCallStatus.PENDING,
    )
    call.step = step
    call.digest = call.digest_of(call.arguments)
    return call


async def _check(tool: Tool | None, request: CallRequested, run: Run, runtime: Runtime) -> tuple[dict[str, Any], str]:
    """Return the arguments to record, and what is wrong with them, for the model."""
    raw, fault = intake.arguments(request.arguments, get_settings().arguments_limit)
    if fault:
        return raw, fault
    if tool is None:
        return raw, f"There is no tool called {jsontext.shorten(request.name, 64)!r}."
    try:
        return await intake.checked(runtime, tool.signature.arguments, lambda: tool.validate(raw)), ""
    except ModelRetry as error:
        return raw, error.message
    except NotKept as error:
        return raw, _not_kept(error, tool.name, run)


def _not_kept(error: NotKept, name: str, run: Run) -> str:
    """Log what a developer has to mend, and return what is said of it to the model."""
    reference = uuid7().hex[-8:]
    about = log_extra("arguments_not_kept", run.pk, run.attempt)
    logger.error(
        "tool %s cannot be called; reference %s: %s", name, reference, error.message, exc_info=error, extra=about
    )
    return (
        f"The application has a mistake in its tool {name}, which was not run (reference {reference}). "
        "Do not call it again with these arguments."
    )


async def _needs_approval(tool: Tool, checked: dict[str, Any], run: Run, call: ToolCall, runtime: Runtime) -> bool:
    """Ask the tool whether this call needs a person."""
    ask = tool.needs_approval
    if isinstance(ask, bool):
        return ask
    ctx = PlanContext(run.pk, run.thread_id, run.user, call.call_id, str(call.pk), run.attempt)
    hook = Hook(f"needs_approval of {tool.name}", code="needs_approval_failed", message=NOT_TOLD)
    return await application.ask(hook, run, runtime, ask, checked, ctx, read=bool)


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
        asks=Commit(moves=[waits]).and_then(_request_approval(call, _allowed(definition, call), verdict.reason))
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
    return Ruling(asks=voided.and_then(Commit(moves=[waits]), _request_approval(call, tuple(approval.allowed))))
