"""A run as its page shows it: what happened, in bounded pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.admin import AdminSite
from django.utils import timezone
from django.utils.translation import gettext as _

from ..access import get_policy, visible_approvals
from ..models import Run, Step, ToolCall
from ..states import RunStatus, ToolCallStatus
from ..values.usage import Usage
from . import show
from .decision import Card, card

MOST = 200  # steps, calls or approvals on one page; the log has them all


@dataclass(frozen=True)
class StepRow:
    """One model call or one round of tool calls."""

    step: Step
    status: str
    started: str
    took: str
    usage: Usage
    context: str
    error: str
    detail: str
    finish: str
    rejected: str
    tools: str
    counts: str


@dataclass(frozen=True)
class CallRow:
    """One recorded call; `answerable` where somebody must say whether it took effect."""

    call: ToolCall
    name: str
    status: str
    took: str
    arguments: str
    asked: str
    edited_by: str
    result: str
    error: str
    answerable: bool
    question: str


@dataclass(frozen=True)
class Listed:
    """The rows of one table, and how many more there are."""

    rows: Sequence[Any]
    more: int


def state(run: Run) -> str:
    """Return the run's status as a word, with what the status alone does not say."""
    if _is_abandoned(run):
        return show.badge("poisoned", _("running: lease expired"))
    if run.status == RunStatus.RUNNING and run.cancel_requested_at:
        return show.badge("cancelling", _("cancelling"))
    if run.status == RunStatus.WAITING and run.poisoned_at:
        return show.badge("poisoned", _("waiting: poisoned"))
    if run.version_missing_since and not run.terminal:
        return show.badge(run.status, _("%(status)s: no worker has its agent") % {"status": run.status})
    return show.badge(run.status)


def warnings(run: Run) -> list[str]:
    """Return what is not as it should be."""
    found = []
    if _is_abandoned(run):
        found.append(_("The lease has run out: its worker is gone or stuck. The sweep gives the run to another one."))
    if run.poisoned_at and run.status == RunStatus.WAITING:
        lost = {"count": run.lost_leases}
        found.append(_("Parked: %(count)d workers died while they drove it. Resume it, or cancel it.") % lost)
    found += map(show.visible, run.all_notes().values())
    return found


def steps(run: Run) -> Listed:
    """Return the run's steps in order."""
    return _listed([_step(step, run) for step in run.steps.order_by("number", "started_at")[: MOST + 1]], run.steps)


def calls(run: Run, user: Any) -> Listed:
    """Return the run's calls in order; those that wait for an answer come first, whatever their number."""
    rows = run.tool_calls.order_by("created_at", "position")
    unverified = list(rows.filter(status=ToolCallStatus.EFFECT_UNVERIFIED)[:MOST])
    others = list(rows.exclude(status=ToolCallStatus.EFFECT_UNVERIFIED)[: MOST + 1])
    for call in unverified:
        call.run = run  # the policy asks for it; it is the one in hand
    shown = [_call(call, answerable=get_policy().may_resolve(user, call)) for call in unverified]
    return _listed([*shown, *(_call(call, answerable=False) for call in others)], run.tool_calls)


def approvals(run: Run, user: Any, site: AdminSite) -> list[Card]:
    """Return the run's approvals that `user` sees, those still owed first."""
    found = visible_approvals(user).filter(run=run).select_related("tool_call", "decided_by", "run__thread")
    # Of all statuses "pending" is last in the alphabet: this order puts it first, and is the index's.
    return [card(item, user, site) for item in found.order_by("-status", "requested_at", "pk")[:MOST]]


def _is_abandoned(run: Run) -> bool:
    return bool(run.status == RunStatus.RUNNING and run.lease_expires_at and run.lease_expires_at < timezone.now())


def _listed(rows: list[Any], every: Any) -> Listed:
    if len(rows) <= MOST:
        return Listed(rows, 0)
    return Listed(rows[:MOST], every.count() - MOST)


def _step(step: Step, run: Run) -> StepRow:
    error = f"{step.error_code}: {step.error_message}" if step.error_code else ""
    return StepRow(
        step=step,
        status=show.badge(step.status),
        started=show.clock(step.started_at, run.created_at),
        took=show.took(step.started_at, step.finished_at),
        usage=Usage.from_json(step.usage),
        context=show.brief_value(step.context) if step.context else "",
        error=show.brief(error),
        detail=show.brief(step.error_detail),
        finish=f"{step.finish_reason} ({show.visible(step.finish_detail)})"
        if step.finish_detail
        else step.finish_reason,
        rejected=show.brief_value(step.rejected) if step.rejected else "",
        tools=show.brief(", ".join(step.tools)),
        counts=show.brief(", ".join(f"{name} {count}" for name, count in step.usage.get("details", {}).items())),
    )


def _call(call: ToolCall, *, answerable: bool) -> CallRow:
    return CallRow(
        call=call,
        name=show.visible(call.name, keep=""),
        status=show.badge(call.status),
        took=show.took(call.started_at, call.finished_at),
        arguments=show.brief_json(call.arguments),
        asked=show.brief_value(call.edit["asked"]) if call.edit else "",
        edited_by=show.visible(call.edit["by"]) if call.edit else "",
        result=show.brief_json(call.result) if call.result else "",
        error=show.brief(call.error),
        answerable=answerable,
        question=show.visible(call.question) if answerable else "",
    )
