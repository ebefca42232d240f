"""One decision as a page shows it, and as a form sends it back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from django.contrib.admin import AdminSite
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _

from ..access import get_policy
from ..exceptions import ApprovalExpired, Invalid, RunEnded
from ..models import Approval
from ..services.approvals import Decision
from ..states import ApprovalStatus
from . import show


@dataclass(frozen=True)
class Typed:
    """What its decider had typed when a decision was refused."""

    reason: str = ""
    arguments: str = ""
    error: str = ""


@dataclass(frozen=True)
class Card:
    """All a person needs to decide one call, or to see how it was decided."""

    approval: Approval
    tool: str
    call_id: str
    arguments: str
    edited: str
    because: str
    reason: str
    status: str
    refusal: str
    decide_url: str
    may_edit: bool
    typed: Typed


def card(approval: Approval, user: Any, site: AdminSite, typed: Typed | None = None) -> Card:
    """Return an approval as `user` is shown it; `refusal` says why there are no buttons."""
    call = approval.tool_call
    may_edit = "edit" in approval.allowed
    return Card(
        approval=approval,
        tool=show.visible(call.name, keep=""),
        call_id=show.visible(call.call_id, keep=""),
        arguments=show.pretty(approval.arguments),
        edited=show.pretty(approval.edited_arguments) if approval.edited_arguments else "",
        because=show.visible(approval.because),
        reason=show.visible(approval.reason),
        status=show.badge(approval.status),
        refusal=refusal(approval, user),
        decide_url=show.address(site, approval, "decide", approval.pk),
        may_edit=may_edit,
        typed=typed or Typed(arguments=show.pretty(approval.arguments)),
    )


def refusal(approval: Approval, user: Any) -> str:
    """Return why `user` cannot decide this approval now, or nothing."""
    if approval.status != ApprovalStatus.PENDING:
        return _("It is %(status)s already.") % {"status": approval.status}
    if approval.run.terminal:
        return RunEnded().message
    if approval.expires_at <= timezone.now():
        return ApprovalExpired().message
    if not is_intact(approval):
        return _("The stored arguments do not match their digest, so they cannot be approved. Cancel the run.")
    if not get_policy().may_decide(user, approval):
        return _("You may see this approval, but not decide it. Ask someone with the permission.")
    return ""


def is_intact(approval: Approval) -> bool:
    """Whether what is shown is what the digest was taken over, and what the call would run with."""
    call = approval.tool_call
    is_its_own = approval.run_id == call.run_id and approval.arguments == call.arguments
    return is_its_own and approval.digest == call.digest_of(approval.arguments)


def posted(request: HttpRequest, approval: Approval) -> Decision:
    """Return the decision a form sent, bound to the digest that form showed.

    Raises `Invalid` where what was typed is no JSON object. Whether the digest is
    still the stored arguments' own is the service's to judge.
    """
    verdict = request.POST.get("verdict", "")
    edited = _edited(request.POST.get("arguments", ""), approval) if verdict == "approve" else None
    if verdict not in ("approve", "deny"):
        raise Invalid(_("Choose Approve or Deny."))
    return Decision(
        approval=approval.pk,
        verdict="approve" if verdict == "approve" else "deny",
        digest=request.POST.get("digest", ""),
        reason=request.POST.get("reason", ""),
        edited_arguments=edited,
    )


def _edited(text: str, approval: Approval) -> dict[str, Any] | None:
    """Return the arguments typed, or None where they are the ones shown."""
    if "edit" not in approval.allowed or not text.strip():
        return None
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Invalid(_("The edited arguments are not JSON: %(error)s.") % {"error": error}) from error
    if not isinstance(value, dict):
        raise Invalid(_("The edited arguments must be a JSON object."))
    return None if value == json.loads(approval.arguments) else value


def _no_constant(name: str) -> Any:
    raise ValueError(name)
