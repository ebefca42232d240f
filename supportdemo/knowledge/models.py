"""Articles of the knowledge base."""

from __future__ import annotations

from django.db import models


class Article(models.Model):
    """One policy text; the full-text index follows every write, whatever makes it."""

    slug = models.SlugField(unique=True)
    title = models.CharField(max_length=200)
    body = models.TextField()
    internal = models.BooleanField(default=False, help_text="Only found for staff.")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["title"]

    def __str__(self) -> str:
        return self.title
