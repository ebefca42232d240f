from __future__ import annotations

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Log-in, the demo's people, and how often each may do what."""

    name = "supportdemo.accounts"
    label = "accounts"
    verbose_name = "Accounts"
