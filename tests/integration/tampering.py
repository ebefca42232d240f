"""What can become of an approval between the page that shows it and the answer."""

from __future__ import annotations

from agentcore.models import Approval, ToolCall


def change_the_approval(approval: Approval) -> None:
    Approval.objects.filter(pk=approval.pk).update(arguments='{"cents":999,"to":"eve"}')


def change_the_call(approval: Approval) -> None:
    ToolCall.objects.filter(pk=approval.tool_call_id).update(arguments='{"cents":999,"to":"eve"}')


def change_both(approval: Approval) -> None:
    change_the_approval(approval)
    change_the_call(approval)


def ask_anew(approval: Approval) -> None:
    """Ask for other arguments under a digest that is truly theirs."""
    change_both(approval)
    call = ToolCall.objects.get(pk=approval.tool_call_id)
    fresh = call.digest_of(call.arguments)
    Approval.objects.filter(pk=approval.pk).update(digest=fresh)


CHANGES = [change_the_approval, change_the_call, change_both, ask_anew]
