"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _

from .conf import get_settings


class AgentcoreConfig(AppConfig):
    """agentcore: durable agent runs."""

    name = "agentcore"
    label = "agentcore"
    verbose_name = _("Agents")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register checks and signal handlers and import every app's `agents.py`; touches no database."""
        # They register themselves when the apps are ready.
        from . import checks  # noqa: F401, PLC0415
        from .services import handlers  # noqa: F401, PLC0415

        if get_settings().failpoints:
            from .testing.faults import plans  # noqa: PLC0415 - not loaded where nothing is tested

            plans.install_from_environment()
        autodiscover_modules("agents")
