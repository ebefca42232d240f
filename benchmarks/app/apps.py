"""The app of the measured agents."""

from __future__ import annotations

from django.apps import AppConfig


class BenchmarksConfig(AppConfig):
    """Its agents are found by autodiscovery, like any project's."""

    name = "benchmarks.app"
    label = "benchmarks"
