"""Cases, and the shop's orders and refunds that they are about."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any, ClassVar
from uuid import uuid4

from django.conf import settings
from django.db import models
from django.db.models import Exists, F, OuterRef, Q, Subquery, Value
from django.urls import reverse
from django.utils import timezone

from agentcore.access import visible_threads
from agentcore.models import Approval, Run
from agentcore.states import RunStatus, ToolCallStatus

REFUND_DAYS = 30
WAITING = str(RunStatus.WAITING)
STAFF = "staff"
"""How a case stands that waits for a person, but for no approval."""


class CaseQuerySet(models.QuerySet["Case"]):
    """Which cases, for whom, and how they stand."""

    def visible_to(self, user: Any) -> CaseQuerySet:
        """Keep the cases whose thread `user` may see: one policy for page, API and websocket."""
        return self.filter(thread__in=visible_threads(user))

    def with_status(self) -> CaseQuerySet:
        """Add how each case stands, as `run_status`.

        It is `waiting` where an approval is owed, `staff` where a run is parked or a call may have
        happened, and else the status of the last run of the newest turn; None before the first.
        """
        runs = Run.objects.filter(thread=OuterRef("thread"))
        waiting = runs.filter(status=RunStatus.WAITING)
        owed = Approval.objects.pending().filter(run__thread=OuterRef("thread"), run__status=RunStatus.WAITING)
        doubted = Q(poisoned_at__isnull=False) | Q(tool_calls__status=ToolCallStatus.EFFECT_UNVERIFIED)
        waits = [
            models.When(Exists(owed), then=Value(WAITING)),
            models.When(Exists(waiting.filter(doubted)), then=Value(STAFF)),
            models.When(Exists(waiting), then=Value(WAITING)),
        ]
        latest = Subquery(runs.order_by("-order", "-number").values("status")[:1])
        return self.annotate(run_status=models.Case(*waits, default=latest, output_field=models.CharField()))


class Case(models.Model):
    """A customer's matter: a thread with a subject."""

    class Priority(models.TextChoices):
        LOW = "low", "Low"
        NORMAL = "normal", "Normal"
        HIGH = "high", "High"

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    customer = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="cases")
    thread = models.OneToOneField("agentcore.Thread", on_delete=models.CASCADE, related_name="case")
    subject = models.CharField(max_length=150)
    priority = models.CharField(max_length=8, choices=Priority, default=Priority.NORMAL)
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[Any] = CaseQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-id"]

    def __str__(self) -> str:
        return self.subject

    def get_absolute_url(self) -> str:
        """Return the address of the case's page."""
        return reverse("cases:detail", args=[self.pk])

    @property
    def status(self) -> str:
        """How its runs stand, see `with_status`; empty before the first: derived, so never stored and never wrong."""
        if not hasattr(self, "run_status"):
            self.run_status = Case.objects.with_status().values_list("run_status", flat=True).get(pk=self.pk)
        return self.run_status or ""


class Order(models.Model):
    """Something a customer bought."""

    number = models.CharField(max_length=20, unique=True)
    customer = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="orders")
    item = models.CharField(max_length=150)
    total_cents = models.PositiveIntegerField()
    currency = models.CharField(max_length=3, default="EUR")
    shipped_on = models.DateField(null=True, blank=True)
    delivered_on = models.DateField(null=True, blank=True)
    refunded_cents = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["number"]
        constraints = [
            models.CheckConstraint(condition=Q(refunded_cents__lte=F("total_cents")), name="cases_order_refunded"),
        ]

    def __str__(self) -> str:
        return self.number

    @property
    def state(self) -> str:
        """Where the goods are."""
        return "delivered" if self.delivered_on else "shipped" if self.shipped_on else "processing"

    @property
    def refundable_cents(self) -> int:
        """What was paid and has not been paid back."""
        return self.total_cents - self.refunded_cents

    def refusal(self, today: date | None = None) -> str:
        """Return why the refund policy rules a refund out, or an empty string."""
        if not self.refundable_cents:
            return "It has been refunded in full already."
        today = today or timezone.localdate()
        if self.delivered_on and self.delivered_on < today - timedelta(days=REFUND_DAYS):
            return f"It was delivered more than {REFUND_DAYS} days ago."
        return ""


class Refund(models.Model):
    """Money paid back, once for each key."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="refunds")
    amount_cents = models.PositiveIntegerField()
    reason = models.CharField(max_length=500)
    idempotency_key = models.CharField(max_length=200, unique=True)
    approved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="approved_refunds"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [models.CheckConstraint(condition=Q(amount_cents__gt=0), name="cases_refund_positive")]

    def __str__(self) -> str:
        return f"{self.amount_cents} for {self.order_id}"


class UsageCharge(models.Model):
    """What one finished run cost: the demo's ledger."""

    run = models.OneToOneField("agentcore.Run", on_delete=models.CASCADE, related_name="charge")
    # As large as a run's sum may be: a provider that reports nonsense must not keep the customer from writing.
    tokens = models.PositiveBigIntegerField()
    cents = models.DecimalField(max_digits=20, decimal_places=4)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.cents} ct for {self.run_id}"
