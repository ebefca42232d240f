"""Messages: the entries of a thread."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Self
from uuid import UUID

from django.conf import settings
from django.core.exceptions import SynchronousOnlyOperation
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from ..database import rows
from ..states import MessageStatus
from ..values import jsontext, parts
from ..values.ids import uuid7
from ..values.parts import Part
from .fields import choices, only
from .tool_call import ToolCall

NOT_READ = (
    "Message {pk} tells of a tool call that was not read along with it, and an event loop cannot wait for the query. "
    "Read the message with Message.objects, and with tool_call where you use only(), defer() or select_related(None); "
    "or read its parts in sync_to_async()."
)
AUTHORS = [("user", _("user")), ("agent", _("agent")), ("tool", _("tool")), ("system", _("system"))]


class MessageQuerySet(models.QuerySet["Message"]):
    """Scopes of messages."""

    def in_order(self) -> MessageQuerySet:
        """Return them as they were said: by turn, then by step of the turn."""
        return self.order_by("order", "step_order")

    def complete(self) -> MessageQuerySet:
        """Return those a model may read: neither failed, nor canceled, nor unfinished."""
        return self.filter(status=MessageStatus.COMPLETE)

    def only(self, *fields: str) -> Self:
        """Load these fields; of a call, what they name of it, and else nothing until it is asked for."""
        rows = super().only(*fields)
        return rows if any(field.startswith("tool_call") for field in fields) else rows._without_calls()

    def defer(self, *fields: Any) -> Self:
        """Leave these fields out; with `tool_call`, the call is not read until it is asked for."""
        rows = super().defer(*fields)
        return rows._without_calls() if {"tool_call", "tool_call_id"}.intersection(fields) else rows

    def select_for_update(
        self, nowait: bool = False, skip_locked: bool = False, of: Sequence[str] = (), no_key: bool = False
    ) -> Self:
        """Lock the messages; a row that is joined to them, such as their call's, only where `of` names it."""
        # PostgreSQL locks nothing that may be missing from a join.
        return super().select_for_update(nowait, skip_locked, of or ("self",), no_key)

    def _without_calls(self) -> Self:
        """Take back the manager's join, and no other: Django refuses to join what is deferred."""
        joined = self.query.select_related
        if isinstance(joined, dict):
            self.query.select_related = {name: more for name, more in joined.items() if name != "tool_call"} or False
        return self


class MessageManager(models.Manager["Message"].from_queryset(MessageQuerySet)):  # type: ignore[misc]
    """Reads each message with the call whose result it tells: however many there are, no query more."""

    def get_queryset(self) -> MessageQuerySet:
        found: MessageQuerySet = super().get_queryset().select_related("tool_call")
        return found


class Message(models.Model):
    """One entry; `(order, step_order)` places it: the turn, then the step in the turn.

    What it says is `parts`. The row has it as `content`; of what came of a call it has none of it, but
    names the call: `tool_call`, whose row has it.
    """

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
        db_index=False,  # see `Meta.indexes`: most messages are nobody's
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
    # What the model's provider wants back with it: no event and no answer of the API has it; see `parts`.
    provider_details = models.JSONField(_("provider details"), null=True, blank=True)
    # No index of its own: that of its constraint has all that there is to find.
    tool_call = models.ForeignKey(
        "agentcore.ToolCall",
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="+",
        db_index=False,
        verbose_name=_("tool call"),
    )
    created_at = models.DateTimeField(_("created at"), db_default=Now())

    objects = MessageManager()

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        constraints = [
            models.UniqueConstraint(fields=["thread", "order", "step_order"], name="agentcore_message_place"),
            models.UniqueConstraint(
                fields=["tool_call"], condition=Q(tool_call__isnull=False), name="agentcore_message_result"
            ),
            only("status", MessageStatus, "agentcore_message_status"),
        ]
        indexes = [
            models.Index(
                fields=["author_user"], condition=Q(author_user__isnull=False), name="agentcore_message_author"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.author_kind} {self.order}.{self.step_order}"

    def refresh_from_db(
        self, using: str | None = None, fields: Iterable[str] | None = None, from_queryset: Any = None
    ) -> None:
        """Read the row again, and the call along with it."""
        if from_queryset is None:
            from_queryset = Message.objects.db_manager(using, hints={"instance": self}).all()
        super().refresh_from_db(using, fields, from_queryset)
        self.__dict__.pop("parts", None)

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The typed content."""
        call = self._call
        return parts.from_json(self.content) if call is None else (call.as_part(),)

    @property
    def parts_with_details(self) -> tuple[Part, ...]:
        """The typed content with what its model's provider wants back."""
        return parts.from_json(self.content, self.provider_details) if self.provider_details else self.parts

    @property
    def text(self) -> str:
        """The text parts, one paragraph each."""
        return "\n\n".join(part["text"] for part in self.content["parts"] if part["type"] == "text" and part["text"])

    def to_json(self) -> dict[str, Any]:
        """Return the whole message, as the API shows it."""
        shown = self.content["parts"] if self._call is None else [vars(part) for part in self.parts]
        return {**self._place(), "parts": shown, "text": self.text}

    def to_event(self) -> dict[str, Any]:
        """Return the message as the log of its run has it: its result stands in an event of its own."""
        call = self._call
        named = [] if call is None else [{"type": "tool-result", "call_id": call.call_id, "name": call.name}]
        return {**self._place(), "parts": named or self.content["parts"]}

    def to_thread_event(self) -> dict[str, Any]:
        """Return the message as the log of its thread has it: whole where no run has said it, else only placed."""
        return self.to_event() if self.run_id is None else self._place()

    @property
    def _call(self) -> ToolCall | None:
        """The call that it tells of; raises `SynchronousOnlyOperation` on a loop where it was not read along."""
        try:
            return self.tool_call
        except SynchronousOnlyOperation as error:
            raise SynchronousOnlyOperation(NOT_READ.format(pk=self.pk)) from error

    def _place(self) -> dict[str, Any]:
        return {
            "step_order": self.step_order,  # first, see `events.Message`
            **({"key": self.key} if self.key else {}),
            "id": str(self.pk),
            "run": str(self.run_id) if self.run_id else None,
            "order": self.order,
            "author": {"kind": self.author_kind, "name": self.author_name},
            "status": str(self.status),
            **({"finish_reason": self.finish_reason} if self.finish_reason else {}),
        }


def compose(
    *,
    thread_id: UUID,
    run_id: UUID | None,
    order: int,
    step_order: int,
    author_kind: str,
    author_name: str,
    content: tuple[Part, ...] = (),
    tool_call: ToolCall | None = None,
    status: MessageStatus = MessageStatus.COMPLETE,
    author_user_id: Any = None,
    finish_reason: str = "",
    provider_details: dict[str, Any] | None = None,
) -> Message:
    """Return an unsaved message with its content cleaned; what came of a `tool_call` is no content of it."""
    message = rows.new(
        Message,
        thread_id=thread_id,
        run_id=run_id,
        order=order,
        step_order=step_order,
        author_kind=author_kind,
        author_name=jsontext.clean_text(author_name)[:150],
        author_user_id=author_user_id,
        status=status,
        finish_reason=finish_reason,
        content=parts.to_json(content),
        provider_details=provider_details,
    )
    if tool_call is not None:
        message.tool_call = tool_call
    return message
