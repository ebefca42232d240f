"""Tool calls: requests of a model, recorded before anything runs."""

from __future__ import annotations

import json
from typing import Any

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from ..declaration.tool import EffectKind
from ..states import CLOSED_CALL_STATUSES, OPEN_CALL_STATUSES, ToolCallStatus
from ..values import jsontext
from ..values.ids import uuid7
from ..values.parts import Edited, ToolResultPart
from .fields import choices, only

STILL_ALIVE = (
    "Worker {worker} had this call last. That worker may still be alive, and go on with it: make sure that it does not "
    "before you say what became of the call."
)

TOLD = frozenset({"id", "call_id", "name", "status", "result", "error", "edit", "arguments"})
"""The columns that `as_part` reads."""


class ToolCallQuerySet(models.QuerySet["ToolCall"]):
    """Scopes of tool calls."""

    def open(self) -> ToolCallQuerySet:
        """Return the calls that have no result yet."""
        return self.filter(status__in=OPEN_CALL_STATUSES)


class ToolCall(models.Model):
    """One recorded call; its id is the idempotency key of every attempt to run it."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # No index of its own: that of `call_id` begins with it. Nor has the status one: ending a call writes to no index.
    run = models.ForeignKey(
        "agentcore.Run", on_delete=models.CASCADE, related_name="tool_calls", db_index=False, verbose_name=_("run")
    )
    step = models.ForeignKey(
        "agentcore.Step", on_delete=models.CASCADE, related_name="tool_calls", verbose_name=_("step")
    )
    position = models.PositiveSmallIntegerField(_("position"))
    call_id = models.CharField(_("call id"), max_length=200)
    name = models.CharField(_("tool"), max_length=64)
    # Text, not JSON: an approval binds these bytes, and jsonb would reorder them.
    arguments = models.TextField(_("arguments"))
    # Where a person changed the arguments: {"v": 1, "asked": …, "by": …, "reason": …}, with those that the model sent.
    edit = models.JSONField(_("edit"), null=True, blank=True)
    digest = models.CharField(_("digest"), max_length=64)
    schema_digest = models.CharField(max_length=64, blank=True)
    effect = models.CharField(_("effect"), max_length=10, choices=choices(EffectKind))
    status = models.CharField(
        _("status"), max_length=20, choices=choices(ToolCallStatus), default=ToolCallStatus.PENDING
    )
    attempt = models.PositiveIntegerField(_("attempt"), default=0)
    tries = models.PositiveSmallIntegerField(_("tries"), default=0)
    # Who began it last: where its end is not known, that worker may still be at it.
    worker = models.CharField(_("worker"), max_length=100, blank=True)
    result = models.TextField(_("result"), blank=True)
    error = models.TextField(_("error"), blank=True)
    # Of a call that a guard denied, the guard's own.
    error_code = models.CharField(_("error code"), max_length=64, blank=True)
    created_at = models.DateTimeField(_("created at"), db_default=Now())
    started_at = models.DateTimeField(_("started at"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished at"), null=True, blank=True)

    objects = ToolCallQuerySet.as_manager()

    class Meta:
        verbose_name = _("tool call")
        verbose_name_plural = _("tool calls")
        constraints = [
            models.UniqueConstraint(fields=["run", "call_id"], name="agentcore_call_once"),
            only("status", ToolCallStatus, "agentcore_call_status"),
            models.CheckConstraint(
                condition=Q(status__in=CLOSED_CALL_STATUSES, finished_at__isnull=False)
                | Q(status__in=OPEN_CALL_STATUSES, finished_at=None),
                name="agentcore_call_finished",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.call_id}"

    @property
    def question(self) -> str:
        """What whoever may answer should know of a call whose effect is not known; for nobody else's eyes."""
        if self.status != ToolCallStatus.EFFECT_UNVERIFIED:
            return ""
        return STILL_ALIVE.format(worker=self.worker or "unknown")

    @property
    def arguments_json(self) -> dict[str, Any]:
        """The arguments as plain data."""
        data: dict[str, Any] = json.loads(self.arguments)
        return data

    @property
    def edited(self) -> Edited | None:
        """The arguments that a person put in the place of the model's, by whom and why; None where nobody did."""
        if self.edit is None:
            return None
        return {"arguments": self.arguments_json, "by": self.edit["by"], "reason": self.edit["reason"]}

    @property
    def result_json(self) -> Any:
        """The result as plain data; None while there is none."""
        return json.loads(self.result) if self.result else None

    def digest_of(self, arguments: str, *, schema_digest: str | None = None) -> str:
        """Return what a decision on this call binds: the run, the call, its tool as declared, the bytes of `arguments`.

        The tool is taken as it was declared when the call was recorded, unless another `schema_digest` is given.
        """
        declared = self.schema_digest if schema_digest is None else schema_digest
        return jsontext.digest(str(self.run_id), self.call_id, self.name, declared, arguments)

    def as_part(self) -> ToolResultPart:
        """Return what became of it, as it is known now, as a message tells it."""
        return ToolResultPart(self.call_id, self.name, str(self.status), self.result_json, self.error, self.edited)
