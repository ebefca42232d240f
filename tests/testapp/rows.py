"""Effects on the project's own database: rows that say which calls were committed."""

from __future__ import annotations

from django.contrib.auth.models import Group

from agentcore import ToolContext
from tests.testapp.world import Effect


def write(ctx: ToolContext) -> None:
    """Note one call, in the caller's transaction."""
    Group.objects.create(name=f"{ctx.run_id} {ctx.call_id} {ctx.attempt}")


def committed() -> list[Effect]:
    """What was committed so far, in order."""
    found = (name.split() for name in Group.objects.order_by("pk").values_list("name", flat=True))
    return [Effect(run_id, call_id, int(attempt)) for run_id, call_id, attempt in found]
