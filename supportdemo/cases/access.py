"""Finding a case for somebody: what they may not see is not there."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import Http404

from agentcore.access import get_policy
from supportdemo.problems import Problem

from .models import Case


def case_to_read(user: Any, case_id: UUID) -> Case:
    """Return a case `user` may open; raises `Http404` for missing and foreign ones alike."""
    case: Case | None = (
        Case.objects.visible_to(user).with_status().select_related("thread", "customer").filter(pk=case_id).first()
    )
    if case is None:
        raise Http404
    return case


def case_to_write(user: Any, case_id: UUID) -> Case:
    """Return a case `user` may write in; an operator reads along and decides, the customer writes."""
    case = case_to_read(user, case_id)
    if not get_policy().may_start(user, case.thread):
        raise Problem(403, "not_allowed", "Only the customer writes in this case. You may decide its approvals.")
    return case


def may_decide(user: Any) -> bool:
    """Whether `user` decides approvals: what the page offers, not what the server allows."""
    return bool(user.is_staff and user.has_perm("agentcore.decide_approval"))


def may_operate(user: Any) -> bool:
    """Whether `user` tries others' runs again and stops them: what the page offers, as `may_decide`."""
    return bool(user.is_staff and user.has_perms(["agentcore.add_run", "agentcore.cancel_any_run"]))
