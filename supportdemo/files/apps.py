from __future__ import annotations

from django.apps import AppConfig


class FilesConfig(AppConfig):
    """Attachments: stored, checked, read."""

    name = "supportdemo.files"
    label = "files"
    verbose_name = "Files"
