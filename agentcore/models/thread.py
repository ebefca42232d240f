"""Threads: conversations with an owner."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from ..values.ids import uuid7
from .deletion import remove_with_owner


class ThreadQuerySet(models.QuerySet["Thread"]):
    """Scopes of threads."""

    def kept(self) -> ThreadQuerySet:
        """Return those that nobody has deleted."""
        return self.filter(removal_due_at=None)


class Thread(models.Model):
    """An ordered conversation; its row allocates turns and run numbers."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # A conversation goes with the account it belongs to.
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("owner"),
        null=True,
        blank=True,
        on_delete=remove_with_owner,
        related_name="agentcore_threads",
    )
    title = models.CharField(_("title"), max_length=200, blank=True)
    stream = models.OneToOneField(
        "agentcore_streams.Stream", on_delete=models.PROTECT, related_name="+", verbose_name=_("stream")
    )
    next_order = models.PositiveIntegerField(default=0, editable=False)
    next_number = models.PositiveIntegerField(default=1, editable=False)
    metadata = models.JSONField(_("metadata"), default=dict, blank=True)
    created_at = models.DateTimeField(_("created at"), db_default=Now())
    updated_at = models.DateTimeField(_("updated at"), db_default=Now())
    # When the sweep tries to remove it; set by whoever deletes it, and from then on nobody sees it.
    removal_due_at = models.DateTimeField(_("removal due at"), null=True, blank=True, editable=False)

    objects = ThreadQuerySet.as_manager()

    class Meta:
        verbose_name = _("thread")
        verbose_name_plural = _("threads")
        permissions = [("view_any_thread", _("Can see every thread"))]
        indexes = [
            models.Index(fields=["owner", "-updated_at"], name="agentcore_thread_owner"),
            models.Index(fields=["-updated_at"], name="agentcore_thread_new"),
            models.Index(
                fields=["removal_due_at"],
                condition=models.Q(removal_due_at__isnull=False),
                name="agentcore_thread_removal",
            ),
        ]

    def __str__(self) -> str:
        return self.title or str(self.pk)
