"""The peers, each as its own documentation writes such a run; they need `.venv-peers`, made from requirements.txt."""

from __future__ import annotations
