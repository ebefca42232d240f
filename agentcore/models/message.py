"""Messages: the entries of a thread."""

from __future__ import annotations

from functools import cached_property
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from .. import jsontext, parts
from ..ids import uuid7
from ..states import MessageStatus
from .fields import choices, only

AUTHORS = [("user", _("user")), ("agent", _("agent")), ("tool", _("tool")), ("system", _("system"))]


class MessageQuerySet(models.QuerySet["Message"]):
    """Scopes of messages."""

    def in_order(self) -> MessageQuerySet:
        """Return them as they were said: by turn, then by step of the turn."""
        return self.order_by("order", "step_order")

    def complete(self) -> MessageQuerySet:
        """Return those a model may read: neither failed, nor canceled, nor unfinished."""
        return self.filter(status=MessageStatus.COMPLETE)


class Message(models.Model):
    """One entry; `(order, step_order)` places it: the turn, then the step in the turn."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # No index of its own: that of its place begins with it.
    thread = models.ForeignKey(
        "agentcore.Thread",
        on_delete=models.CASCADE,
        related_name="messages",
        db_index=False,
        verbose_name=_("thread"),
    )
    run = models.ForeignKey(
        "agentcore.Run",
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="messages",
        verbose_name=_("run"),
    )
    order = models.PositiveIntegerField(_("turn"))
    step_order = models.PositiveIntegerField(_("step of the turn"))
    author_kind = models.CharField(_("author"), max_length=8, choices=AUTHORS)
    author_name = models.CharField(_("author's name"), max_length=150, blank=True)
    # Who wrote it is kept as a name too, so the record survives the account.
    author_user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="agentcore_messages",
        verbose_name=_("user"),
    )
    status = models.CharField(
        _("status"), max_length=10, choices=choices(MessageStatus), default=MessageStatus.COMPLETE
    )
    # Of an agent's message: why the answer ended; see `finish`.
    finish_reason = models.CharField(_("finish reason"), max_length=30, blank=True)
    # The sender's own name for it, unique to a send: the page that sent it knows it again by this.
    key = models.CharField(_("key"), max_length=200, blank=True)
    content = models.JSONField(_("content"))
    text = models.TextField(_("text"), blank=True)
    created_at = models.DateTimeField(_("created at"), db_default=Now())

    objects = MessageQuerySet.as_manager()

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        constraints = [
            models.UniqueConstraint(fields=["thread", "order", "step_order"], name="agentcore_message_place"),
            only("status", MessageStatus, "agentcore_message_status"),
        ]

    def __str__(self) -> str:
        return f"{self.author_kind} {self.order}.{self.step_order}"

    @cached_property
    def parts(self) -> tuple[parts.Part, ...]:
        """The typed content."""
        return parts.from_json(self.content)

    def to_event(self) -> dict[str, Any]:
        """Return the message as events and the API show it; `key` stands on one that was sent with a key."""
        return {
            **({"key": self.key} if self.key else {}),
            "id": str(self.pk),
            "run": str(self.run_id) if self.run_id else None,
            "order": self.order,
            "step_order": self.step_order,
            "author": {"kind": self.author_kind, "name": self.author_name},
            "status": str(self.status),
            **({"finish_reason": self.finish_reason} if self.finish_reason else {}),
            "parts": self.content["parts"],
            "text": self.text,
        }


def compose(
    *,
    thread_id: UUID,
    run_id: UUID | None,
    order: int,
    step_order: int,
    author_kind: str,
    author_name: str,
    content: tuple[parts.Part, ...],
    status: MessageStatus = MessageStatus.COMPLETE,
    author_user_id: Any = None,
    finish_reason: str = "",
) -> Message:
    """Return an unsaved message with its content cleaned and its text derived."""
    stored = parts.to_json(content)
    typed = parts.from_json(stored)
    message = Message(
        thread_id=thread_id,
        run_id=run_id,
        order=order,
        step_order=step_order,
        author_kind=author_kind,
        author_name=jsontext.clean_text(author_name)[:150],
        author_user_id=author_user_id,
        status=status,
        finish_reason=finish_reason,
        content=stored,
        text=parts.text_of(typed),
    )
    message.parts = typed
    return message
