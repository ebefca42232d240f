"""The app of another project's users."""

from __future__ import annotations

from django.apps import AppConfig


class CustomUserConfig(AppConfig):
    """Users with UUIDs and e-mail addresses."""

    name = "tests.customuser"
    label = "customuser"
    default_auto_field = "django.db.models.AutoField"
