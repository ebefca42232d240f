from __future__ import annotations

from django.apps import AppConfig


class KnowledgeConfig(AppConfig):
    """Policy articles, and the search that finds them."""

    name = "supportdemo.knowledge"
    label = "knowledge"
    verbose_name = "Knowledge"
