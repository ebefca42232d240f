"""Steps: one model call or one round of tool calls."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from ..states import StepKind, StepStatus
from ..values.ids import uuid7
from .fields import choices, only


class Step(models.Model):
    """One model call or one round of tool calls, kept for the auditor; a finished one never runs again."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # No index of its own: that of its number begins with it.
    run = models.ForeignKey(
        "agentcore.Run", on_delete=models.CASCADE, related_name="steps", db_index=False, verbose_name=_("run")
    )
    number = models.PositiveIntegerField(_("number"))
    kind = models.CharField(_("kind"), max_length=6, choices=choices(StepKind))
    attempt = models.PositiveIntegerField(_("attempt"))
    status = models.CharField(_("status"), max_length=8, choices=choices(StepStatus), default=StepStatus.STARTED)
    model = models.CharField(_("model"), max_length=120, blank=True)
    provider = models.CharField(_("provider"), max_length=60, blank=True)
    finish_reason = models.CharField(_("finish reason"), max_length=30, blank=True)
    # What the provider called it, where agentcore has no word for that.
    finish_detail = models.CharField(_("finish detail"), max_length=100, blank=True)
    usage = models.JSONField(_("usage"), default=dict, blank=True)
    context = models.JSONField(_("context"), default=list, blank=True)
    # The names of the tools that the model was offered, where they are chosen by run.
    tools = models.JSONField(_("tools"), default=list, blank=True)
    error_code = models.CharField(_("error code"), max_length=64, blank=True)
    error_message = models.TextField(_("error message"), blank=True)
    # Whether another model of the agent's was asked in its place at once.
    passed_on = models.BooleanField(_("passed on"), default=False)
    # What only operators may read: the provider's own words, say.
    error_detail = models.TextField(_("error detail"), blank=True)
    # What the model said and the engine did not take: `{"v": 1, "text": …, "output": …}`.
    rejected = models.JSONField(_("rejected answer"), null=True, blank=True)
    started_at = models.DateTimeField(_("started at"))
    finished_at = models.DateTimeField(_("finished at"), null=True, blank=True)

    class Meta:
        verbose_name = _("step")
        verbose_name_plural = _("steps")
        constraints = [
            models.UniqueConstraint(
                fields=["run", "number"], condition=Q(status=StepStatus.FINISHED), name="agentcore_step_once"
            ),
            models.UniqueConstraint(
                fields=["run"], condition=Q(status=StepStatus.STARTED), name="agentcore_step_one_open"
            ),
            only("status", StepStatus, "agentcore_step_status"),
        ]
        indexes = [models.Index(fields=["run", "number"], name="agentcore_step_run")]

    def __str__(self) -> str:
        return f"{self.kind} step {self.number}"
