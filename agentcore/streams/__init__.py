"""Durable, ordered logs that can be followed live; a Django app of its own that knows nothing of agents."""

from __future__ import annotations
