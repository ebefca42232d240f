"""Approvals: decisions a person owes on a tool call."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Func, Q
from django.utils.translation import gettext_lazy as _

from ..states import ApprovalStatus
from ..values.ids import uuid7
from .fields import LONGEST_NAME, choices, only


class ApprovalQuerySet(models.QuerySet["Approval"]):
    """Scopes of approvals."""

    def pending(self) -> ApprovalQuerySet:
        """Return those somebody still has to decide."""
        return self.filter(status=ApprovalStatus.PENDING)

    def expired(self, now: datetime | Func) -> ApprovalQuerySet:
        """Return the undecided whose time has passed."""
        return self.pending().filter(expires_at__lte=now)


class Approval(models.Model):
    """One decision on one call: bound to the exact arguments, taken by a named person, consumed once."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # No index of its own: that of its status begins with it.
    run = models.ForeignKey(
        "agentcore.Run", on_delete=models.CASCADE, related_name="approvals", db_index=False, verbose_name=_("run")
    )
    tool_call = models.ForeignKey(
        "agentcore.ToolCall", on_delete=models.CASCADE, related_name="approvals", verbose_name=_("tool call")
    )
    status = models.CharField(
        _("status"), max_length=8, choices=choices(ApprovalStatus), default=ApprovalStatus.PENDING
    )
    # Text, not JSON: these are the bytes a person was shown, and the digest is over them.
    arguments = models.TextField(_("arguments"))
    edited_arguments = models.TextField(_("edited arguments"), blank=True)
    digest = models.CharField(_("digest"), max_length=64)
    allowed = models.JSONField(_("allowed decisions"), default=list)
    # Why a guard has a person asked.
    because = models.TextField(_("asked because"), blank=True)
    requested_at = models.DateTimeField(_("requested at"))
    expires_at = models.DateTimeField(_("expires at"))
    decided_at = models.DateTimeField(_("decided at"), null=True, blank=True)
    # The decision outlives the account; `decided_by_name` still says who it was.
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="agentcore_decisions",
        verbose_name=_("decided by"),
    )
    decided_by_name = models.CharField(_("decided by (name)"), max_length=LONGEST_NAME, blank=True)
    reason = models.TextField(_("reason"), blank=True)
    consumed_at = models.DateTimeField(_("consumed at"), null=True, blank=True)

    objects = ApprovalQuerySet.as_manager()

    class Meta:
        verbose_name = _("approval")
        verbose_name_plural = _("approvals")
        permissions = [("decide_approval", _("Can decide approvals"))]
        constraints = [
            models.UniqueConstraint(
                fields=["tool_call"],
                condition=Q(status__in=[ApprovalStatus.PENDING, ApprovalStatus.APPROVED]),
                name="agentcore_approval_one",
            ),
            only("status", ApprovalStatus, "agentcore_approval_status"),
            models.CheckConstraint(
                condition=Q(status=ApprovalStatus.PENDING, decided_at=None)
                | (~Q(status=ApprovalStatus.PENDING) & Q(decided_at__isnull=False)),
                name="agentcore_approval_decided",
            ),
            models.CheckConstraint(
                condition=Q(consumed_at=None) | Q(status=ApprovalStatus.APPROVED),
                name="agentcore_approval_consumed",
            ),
        ]
        indexes = [
            models.Index(
                fields=["expires_at"], condition=Q(status=ApprovalStatus.PENDING), name="agentcore_approval_open"
            ),
            models.Index(fields=["run", "status"], name="agentcore_approval_run"),
            models.Index(fields=["-requested_at"], name="agentcore_approval_new"),
            models.Index(fields=["status", "-requested_at"], name="agentcore_approval_status_new"),
        ]

    def __str__(self) -> str:
        return f"{self.status} {self.pk}"

    @property
    def arguments_json(self) -> dict[str, Any]:
        """The arguments that were shown, as plain data."""
        data: dict[str, Any] = json.loads(self.arguments)
        return data

    @property
    def edited_arguments_json(self) -> dict[str, Any] | None:
        """The arguments a person put in their place; None where nobody did."""
        data: dict[str, Any] | None = json.loads(self.edited_arguments) if self.edited_arguments else None
        return data

    @property
    def effective_arguments(self) -> str:
        """The canonical arguments that will run: the edited ones, if there are any."""
        return self.edited_arguments or self.arguments
