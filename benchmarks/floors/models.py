"""The four tables of a run, as a Django project would write them down without thinking of agents."""

from __future__ import annotations

from django.db import models


class Run(models.Model):
    """A run and how it ended."""

    status = models.CharField(max_length=20)
    output = models.TextField(blank=True)

    class Meta:
        app_label = "floors"

    def __str__(self) -> str:
        return f"run {self.pk}"


class Message(models.Model):
    """What was said."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE)
    author = models.CharField(max_length=20)
    body = models.TextField()

    class Meta:
        app_label = "floors"

    def __str__(self) -> str:
        return self.body


class Step(models.Model):
    """What a step came to."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE)
    number = models.IntegerField()
    kind = models.CharField(max_length=20)
    result = models.JSONField()

    class Meta:
        app_label = "floors"
        constraints = [models.UniqueConstraint(fields=["run", "number"], name="floor_step")]

    def __str__(self) -> str:
        return f"step {self.number}"


class Event(models.Model):
    """One delta."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE)
    seq = models.IntegerField()
    body = models.JSONField()

    class Meta:
        app_label = "floors"
        constraints = [models.UniqueConstraint(fields=["run", "seq"], name="floor_event")]

    def __str__(self) -> str:
        return f"event {self.seq}"
