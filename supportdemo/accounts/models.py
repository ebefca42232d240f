"""Counters that limit how often somebody does something."""

from __future__ import annotations

from django.db import models


class Allowance(models.Model):
    """How often `subject` did `action` in one window of time."""

    action = models.CharField(max_length=32)
    subject = models.CharField(max_length=200)
    window = models.BigIntegerField(help_text="Number of the window since 1970, in windows of the action's length.")
    used = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["action", "subject", "window"], name="accounts_allowance_once"),
        ]

    def __str__(self) -> str:
        return f"{self.action} by {self.subject}: {self.used}"
