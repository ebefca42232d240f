"""What a model asked for: checked, and recorded before anything runs."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ...conf import get_settings
from ...database import rows
from ...declaration.agent import AgentDefinition
from ...declaration.guard import Deny
from ...declaration.model import CallRequested
from ...declaration.tool import EffectKind, Tool
from ...exceptions import ModelRetry, NotKept
from ...journal.commit import Commit, Insert, combined
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
        planned.append(Planned(call, "", because=because, allowed=allowed_of(definition, call)))
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
            commits.append(request_approval(call, item.allowed, item.because))
        if item.fault:
            commits.append(transitions.refuse_call(run, call, item.fault, item.code))
    return combined(commits)


def allowed_of(definition: AgentDefinition, call: ToolCall) -> tuple[str, ...]:
    """Return what may be decided of a call: nobody but this process knows a tool that is chosen by run."""
    return UNEDITED if call.name in definition.by_run else ALLOWED


def request_approval(call: ToolCall, allowed: tuple[str, ...], because: str = "") -> Commit:
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
