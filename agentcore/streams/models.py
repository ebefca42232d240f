"""The two tables of a log: the stream, and its records."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..values.ids import uuid7

__all__ = ["Record", "Sequencer", "Stream"]


class Sequencer(models.TextChoices):
    """Who allocates a stream's positions."""

    OWN = "own", _("the stream's own row")
    EXTERNAL = "external", _("a row the writer holds")


class Stream(models.Model):
    """An ordered log; its id is new for every incarnation of a name."""

    id = models.UUIDField(_("id"), primary_key=True, default=uuid7, editable=False)
    name = models.CharField(_("name"), max_length=255)
    content_type = models.CharField(_("content type"), max_length=255, default="application/json")
    sequencer = models.CharField(_("sequencer"), max_length=8, choices=Sequencer.choices, default=Sequencer.OWN)
    next_seq = models.BigIntegerField(_("next position"), default=0)
    closed_at = models.DateTimeField(_("closed at"), null=True, blank=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    class Meta:
        verbose_name = _("stream")
        verbose_name_plural = _("streams")
        constraints = [
            # Not `unique=True`: that would make PostgreSQL keep a second index, for LIKE.
            models.UniqueConstraint(fields=["name"], name="agentcore_stream_name"),
            models.CheckConstraint(
                name="agentcore_stream_sequencer", condition=models.Q(sequencer__in=["own", "external"])
            ),
            models.CheckConstraint(name="agentcore_stream_next_seq", condition=models.Q(next_seq__gte=0)),
        ]

    def __str__(self) -> str:
        return self.name


class Record(models.Model):
    """One entry of a stream: the bytes every transport sends as they are."""

    pk = models.CompositePrimaryKey("stream_id", "seq")
    # No index of its own: the primary key begins with it. No constraint either: only the log writes here, under
    # the stream's row or the row that sequences it, and a check for every delta would cost more than its insert.
    stream = models.ForeignKey(
        Stream,
        on_delete=models.CASCADE,
        db_constraint=False,
        db_index=False,
        related_name="records",
        verbose_name=_("stream"),
    )
    seq = models.BigIntegerField(_("position"))
    append_seq = models.BigIntegerField(_("first position of its append"))
    data = models.BinaryField(_("data"))
    created_at = models.DateTimeField(_("created at"))

    class Meta:
        verbose_name = _("record")
        verbose_name_plural = _("records")
        constraints = [
            models.CheckConstraint(
                name="agentcore_record_positions",
                condition=models.Q(append_seq__gte=0, seq__gte=models.F("append_seq")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.stream_id} {self.seq}"
