"""Test doubles and helpers for projects that use agentcore: product, not scaffolding."""

from __future__ import annotations

from .model import Call, ScriptedModel, Turn, UnexpectedCall
from .run import run_until_idle

__all__ = ["Call", "ScriptedModel", "Turn", "UnexpectedCall", "run_until_idle"]
