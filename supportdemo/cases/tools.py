"""What the support agent can do: look at an order, and pay money back once a person agrees."""

from __future__ import annotations

from typing import Annotated, Any

from django.db import IntegrityError, transaction
from django.db.models import F
from pydantic import Field

from agentcore import ToolContext, tool
from agentcore.exceptions import ToolFailed
from agentcore.models import Approval

from .models import Order, Refund


@tool(effect="pure")
def lookup_order(
    ctx: ToolContext, number: Annotated[str, Field(max_length=20, description="The order number, such as A-1001.")]
) -> dict[str, Any]:
    """Look up one of the customer's own orders: what it is, where it is, and whether it can be refunded."""
    order = _own_order(ctx, number)
    refusal = order.refusal()
    return {
        "order": order.number,
        "item": order.item,
        "total_cents": order.total_cents,
        "currency": order.currency,
        "status": order.state,
        "shipped_on": order.shipped_on.isoformat() if order.shipped_on else None,
        "delivered_on": order.delivered_on.isoformat() if order.delivered_on else None,
        "refunded_cents": order.refunded_cents,
        "refundable_cents": order.refundable_cents,
        "refundable": not refusal,
        "why_not": refusal,
    }


@tool(needs_approval=True, effect="idempotent", timeout=30)
def issue_refund(
    ctx: ToolContext,
    order: Annotated[str, Field(max_length=20, description="The order number, such as A-1001.")],
    amount_cents: Annotated[int, Field(gt=0, description="How much to pay back, in cents.")],
    reason: Annotated[str, Field(max_length=500, description="Why, in one sentence, for the person who approves.")],
) -> dict[str, Any]:
    """Pay money back for one of the customer's own orders. A support operator must approve it first."""
    found = _own_order(ctx, order)
    try:
        refund = _pay(found, amount_cents, reason, ctx)
    except IntegrityError:
        # Another attempt of this very call was faster; its refund is the answer.
        refund = Refund.objects.select_related("order", "approved_by").get(idempotency_key=ctx.idempotency_key)
    refund.order.refresh_from_db()
    return {
        "order": refund.order.number,
        "amount_cents": refund.amount_cents,
        "currency": refund.order.currency,
        "refund": str(refund.pk),
        "approved_by": refund.approved_by.get_username() if refund.approved_by else None,
        "refundable_cents": refund.order.refundable_cents,
    }


def _own_order(ctx: ToolContext, number: str) -> Order:
    order = Order.objects.filter(customer=ctx.user, number=number.strip().upper()).first() if ctx.user else None
    if order is None:
        raise ToolFailed(f"There is no order {number} in this customer's account. Ask the customer for the number.")
    return order


def _pay(order: Order, amount_cents: int, reason: str, ctx: ToolContext) -> Refund:
    """Book the refund and the order's sum together, or return what this key has booked before."""
    with transaction.atomic():
        booked = Refund.objects.select_related("order", "approved_by").filter(idempotency_key=ctx.idempotency_key)
        if before := booked.first():
            return before
        refund = Refund.objects.create(
            order=order,
            amount_cents=amount_cents,
            reason=reason,
            idempotency_key=ctx.idempotency_key,
            approved_by_id=_approver(ctx),
        )
        # One conditional UPDATE: two refunds at once cannot both use the same money.
        left = Order.objects.filter(pk=order.pk, refunded_cents__lte=F("total_cents") - amount_cents)
        if not left.update(refunded_cents=F("refunded_cents") + amount_cents):
            order.refresh_from_db()
            raise ToolFailed(
                f"Order {order.number} has {order.refundable_cents} cents left to refund, not {amount_cents}. "
                "No refund was made."
            )
        return refund


def _approver(ctx: ToolContext) -> Any:
    approved = Approval.objects.filter(run_id=ctx.run_id, tool_call__call_id=ctx.call_id, status="approved")
    return approved.values_list("decided_by", flat=True).first()
