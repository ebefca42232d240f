"""Test doubles and helpers for projects that use agentcore: product, not scaffolding."""

from __future__ import annotations

from .clock import FakeClock, fake_clock
from .model import Call, ScriptedModel, Turn, UnexpectedCall
from .proxy import FaultProxy
from .run import run_until_idle

__all__ = ["Call", "FakeClock", "FaultProxy", "ScriptedModel", "Turn", "UnexpectedCall", "fake_clock", "run_until_idle"]
