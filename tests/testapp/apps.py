"""An app of agents whose tools leave a trace outside the database."""

from __future__ import annotations

import os

from django.apps import AppConfig


class TestAppConfig(AppConfig):
    """Agents for the tests, found by autodiscovery like any project's."""

    name = "tests.testapp"
    label = "testapp"

    def ready(self) -> None:
        """Take out a protection, where a negative control has asked for it."""
        if os.environ.get("AGENTCORE_TEST_SABOTAGE"):
            from tests.faults import sabotage

            sabotage.from_environment()
