from __future__ import annotations

from django.apps import AppConfig


class CasesConfig(AppConfig):
    """Support cases: the agent, its tools, the pages."""

    name = "supportdemo.cases"
    label = "cases"
    verbose_name = "Support cases"
