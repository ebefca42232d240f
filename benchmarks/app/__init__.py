"""A Django app with the agents that are measured."""

from __future__ import annotations
