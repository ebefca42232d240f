"""What tests of decisions share: a tool that pays, runs that wait for it, and people who may decide."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission

from agentcore import SYSTEM, ToolContext, tool
from agentcore.models import Approval, Run
from agentcore.services import approvals
from agentcore.testing import Turn
from tests.integration.room import (
    make,
)

PAID: list[tuple[str, int]] = []


@tool(effect="pure")
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool(needs_approval=True)
def pay(ctx: ToolContext, cents: int, note: str = "") -> dict[str, Any]:
    """Pay somebody."""
    PAID.append((ctx.call_id, cents))
    return {"paid": cents}


@tool(effect="pure")
def approve_while_running(ctx: ToolContext) -> str:
    """Decide, from inside the run, what the run is about to wait for."""
    approval = Approval.objects.get(run_id=ctx.run_id, status="pending")
    approvals.approve(approval, user=SYSTEM, digest=approval.digest)
    return str(Run.objects.values_list("status", flat=True).get(pk=ctx.run_id))


def asking(count: int = 1, **options: Any):
    """A room whose run waits for `count` approvals."""
    calls = [("pay", {"cents": number + 1}) for number in range(count)]
    room = make([Turn(calls=calls), Turn(text="Done.")], [pay, add], **options)
    return room, room.play()


def another_operator(name: str) -> Any:
    person = get_user_model().objects.create_user(name, is_staff=True)
    person.user_permissions.add(Permission.objects.get(content_type__app_label="agentcore", codename="decide_approval"))
    return get_user_model().objects.get(pk=person.pk)


def result_of(room: Any, call: int = 0) -> Any:
    """What the model was told about a call in its last request."""
    parts = [part for item in room.model.requests[-1].messages for part in item.parts if part.type == "tool-result"]
    return parts[call]
