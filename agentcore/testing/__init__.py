"""Test doubles and helpers for projects that use agentcore: product, not scaffolding."""

from __future__ import annotations

from .clock import FakeClock, fake_clock
from .contract import check_model
from .faults.checker import Asked, Evidence, History, Violation, check_invariants
from .faults.http_model import HttpModel
from .faults.plans import failpoint_environment
from .faults.proxy import FaultProxy
from .model import Call, ScriptedModel, Turn, UnexpectedCall
from .run import run_until_idle
from .scripted import scripted

__all__ = [
    "Asked",
    "Call",
    "Evidence",
    "FakeClock",
    "FaultProxy",
    "History",
    "HttpModel",
    "ScriptedModel",
    "Turn",
    "UnexpectedCall",
    "Violation",
    "check_invariants",
    "check_model",
    "failpoint_environment",
    "fake_clock",
    "run_until_idle",
    "scripted",
]
