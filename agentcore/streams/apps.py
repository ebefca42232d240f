"""App configuration, and the one wire between writing and following."""

from __future__ import annotations

from collections.abc import Sequence

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

from . import hints
from .publisher import Hint


class StreamsConfig(AppConfig):
    """The `agentcore.streams` app."""

    name = "agentcore.streams"
    label = "agentcore_streams"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = _("Agent streams")

    def ready(self) -> None:
        """Let committed writes be announced through the channel layer."""
        hints.use_transport(_broadcast)


async def _broadcast(batch: Sequence[Hint]) -> None:
    # Imported at the first hint: a process that announces nothing never loads Channels.
    from .hub import broadcast

    await broadcast(batch)
