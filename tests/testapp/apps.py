"""An app of agents whose tools leave a trace outside the database."""

from __future__ import annotations

from django.apps import AppConfig


class TestAppConfig(AppConfig):
    """Agents for the tests, found by autodiscovery like any project's."""

    name = "tests.testapp"
    label = "testapp"
