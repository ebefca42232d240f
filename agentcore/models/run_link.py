"""Links: ids of the same work in other systems."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from ..values.ids import uuid7


class RunLink(models.Model):
    """An id of the same work in another system: a workflow, a ticket, a trace."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # No index of its own: that of its kind begins with it.
    run = models.ForeignKey(
        "agentcore.Run", on_delete=models.CASCADE, related_name="links", db_index=False, verbose_name=_("run")
    )
    kind = models.CharField(_("kind"), max_length=64)
    external_id = models.CharField(_("external id"), max_length=255)
    created_at = models.DateTimeField(_("created at"), db_default=Now())

    class Meta:
        verbose_name = _("run link")
        verbose_name_plural = _("run links")
        constraints = [
            models.UniqueConstraint(fields=["run", "kind", "external_id"], name="agentcore_link_once"),
        ]
        indexes = [models.Index(fields=["kind", "external_id"], name="agentcore_link_external")]

    def __str__(self) -> str:
        return f"{self.kind} {self.external_id}"
