"""Durable agent runs for Django: threads, runs, tools, approvals and an ordered event log in your database."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .access import SYSTEM as SYSTEM
    from .agent import Agent as Agent
    from .context import ContextBlock as ContextBlock
    from .context import LoaderContext as LoaderContext
    from .definition import Limits as Limits
    from .exceptions import EffectUnknown as EffectUnknown
    from .exceptions import ModelRetry as ModelRetry
    from .exceptions import ToolFailed as ToolFailed
    from .isolation import isolated as isolated
    from .services.approvals import Decision as Decision
    from .tools import Checkable as Checkable
    from .tools import ToolContext as ToolContext
    from .tools import tool as tool

__version__ = "0.1.0"

_HOMES = {
    "SYSTEM": "access",
    "Agent": "agent",
    "Checkable": "tools",
    "ContextBlock": "context",
    "Decision": "services.approvals",
    "EffectUnknown": "exceptions",
    "Limits": "definition",
    "LoaderContext": "context",
    "ModelRetry": "exceptions",
    "ToolContext": "tools",
    "ToolFailed": "exceptions",
    "isolated": "isolation",
    "tool": "tools",
}

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604 - the names are the keys above


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that importing agentcore needs no settings."""
    if name not in _HOMES:
        raise AttributeError(f"module 'agentcore' has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
