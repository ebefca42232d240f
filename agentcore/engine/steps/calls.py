"""What a model asked for, recorded before anything runs: valid calls, refused calls, and what needs approval."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ...conf import get_settings
from ...database import rows
from ...declaration.agent import AgentDefinition
from ...declaration.model import CallRequested
from ...declaration.tool import EffectKind, Tool
from ...exceptions import ModelRetry, NotKept
from ...journal.commit import Commit, Insert, combined
from ...models import Approval, Run, Step, ToolCall
from ...states import ApprovalStatus, ToolCallStatus
from ...values import events, jsontext
from ...values.clock import NOW, Later
from ...values.ids import uuid7
from .. import application
from ..application import TRY_AGAIN, Hook
from ..runtime import Runtime
from ..transitions import close_call
from . import arguments, checking

logger = logging.getLogger("agentcore.engine")

NOT_TOLD = f"Whether a person must agree could not be found out. {TRY_AGAIN}"
ALLOWED = ("approve", "deny", "edit")
DAY = 86_400.0


@dataclass(frozen=True)
class Planned:
    """A call to record: it runs at once, it waits for a person, or it is refused with `fault`."""

    run: Run
    call: ToolCall
    needs_approval: bool
    fault: str


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
    run: Run,
    step: Step,
    requested: Sequence[CallRequested],
    runtime: Runtime,
    *,
    refusal: str = "",
) -> list[Planned]:
    """Check every call a model asked for and ask its tool whether a person must approve it.

    With a `refusal`, none of them is run, and the model is told that.
    """
    planned = []
    for position, request in enumerate(requested):
        tool = definition.tools_by_name.get(request.name)
        checked, fault = await _check(tool, request, run, runtime)
        fault = refusal or fault
        call = _new_call(run, step, position, request.name, checked, tool)
        gated = tool is not None and not fault and await _needs_approval(tool, checked, run, call, runtime)
        call.status = ToolCallStatus.WAITING if gated else ToolCallStatus.PENDING
        planned.append(Planned(run, call, gated, fault))
    return planned


def record(planned: Sequence[Planned], step: int) -> Commit:
    """Return the commit that records the calls, asks for approvals, and answers what was refused."""
    commits = []
    for item in planned:
        commits.append(_announce(item, step))
        if item.needs_approval:
            commits.append(request_approval(item.call))
        if item.fault:
            commits.append(close_call(item.run, item.call, ToolCallStatus.FAILED, error=item.fault))
    return combined(commits)


def request_approval(call: ToolCall) -> Commit:
    """Return the commit that asks for a decision on a call's exact arguments."""
    expires = Later(get_settings().approval_days * DAY)
    approval = Approval(
        id=uuid7(),
        run_id=call.run_id,
        tool_call=call,
        status=ApprovalStatus.PENDING,
        arguments=call.arguments,
        digest=call.digest,
        allowed=list(ALLOWED),
    )
    row = Insert(approval, {"requested_at": NOW, "expires_at": expires})
    asked = events.ApprovalRequest(
        str(approval.pk),
        call.call_id,
        call.name,
        call.arguments_json,
        call.digest,
        expires,
        ALLOWED,
    )
    pending = ApprovalStatus.PENDING.value
    seen = events.ThreadApproval(str(approval.pk), str(call.run_id), call.call_id, call.name, pending, "")
    return Commit(events=[asked], inserts=[row], thread_events=[seen])


def _announce(item: Planned, step: int) -> Commit:
    call = item.call
    asked = events.ToolCall(step, call.call_id, call.name, call.arguments_json, str(call.effect), item.needs_approval)
    return Commit(events=[asked], inserts=[Insert(call)])


def _new_call(
    run: Run, step: Step, position: int, name: str, checked: Mapping[str, Any], tool: Tool | None
) -> ToolCall:
    """Return the row to record; ids are ours, for providers repeat theirs within a thread."""
    key = uuid7()
    call = rows.new(
        ToolCall,
        id=key,
        run_id=run.pk,
        step_id=step.pk,
        position=position,
        call_id=f"call_{key.hex}",
        name=jsontext.clean_text(name)[:64],
        arguments=jsontext.canonical(checked),
        schema_digest=tool.schema_digest if tool else "",
        effect=tool.effect if tool else EffectKind.PURE,
        status=ToolCallStatus.PENDING,
    )
    call.digest = call.digest_of(call.arguments)
    return call


async def _check(tool: Tool | None, request: CallRequested, run: Run, runtime: Runtime) -> tuple[dict[str, Any], str]:
    """Return the arguments to record, and what is wrong with them, for the model."""
    raw, fault = arguments.kept(request.arguments, get_settings().arguments_limit)
    if fault:
        return raw, fault
    if tool is None:
        return raw, f"There is no tool called {jsontext.shorten(request.name, 64)!r}."
    try:
        return await checking.checked(runtime, tool.signature.arguments, lambda: tool.validate(raw)), ""
    except ModelRetry as error:
        return raw, error.message
    except NotKept as error:
        return raw, not_kept(error, tool.name, run)


def not_kept(error: NotKept, name: str, run: Run) -> str:
    """Log what a developer has to mend, and return what is said of it to the model."""
    reference = uuid7().hex[-8:]
    about = {"run_id": str(run.pk), "attempt": run.attempt, "action": "arguments_not_kept"}
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
