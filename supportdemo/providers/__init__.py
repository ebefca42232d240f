"""The demo's models: an offline one that reads, and any of a provider."""

from __future__ import annotations

from .choose import choose_model, is_offline, label_of, reads_files, require

__all__ = ["choose_model", "is_offline", "label_of", "reads_files", "require"]
