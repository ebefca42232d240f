"""The demo's models: an offline one that reads, and any OpenAI-compatible provider."""

from __future__ import annotations

from .choose import choose_model, is_offline, label_of

__all__ = ["choose_model", "is_offline", "label_of"]
