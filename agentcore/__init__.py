"""Durable agent runs for Django: threads, runs, tools, approvals and an ordered event log in your database."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .access import AccessPolicy as AccessPolicy
    from .access import OwnerPolicy as OwnerPolicy
    from .agent import Agent as Agent
    from .declaration.agent import Limits as Limits
    from .declaration.choice import ToolSource as ToolSource
    from .declaration.context import ContextBlock as ContextBlock
    from .declaration.context import RunContext as RunContext
    from .declaration.files import Files as Files
    from .declaration.files import NewFile as NewFile
    from .declaration.guard import Answer as Answer
    from .declaration.guard import Ask as Ask
    from .declaration.guard import AskAgain as AskAgain
    from .declaration.guard import Deny as Deny
    from .declaration.guard import Guard as Guard
    from .declaration.guard import ProposedCall as ProposedCall
    from .declaration.guard import Redact as Redact
    from .declaration.guard import Refuse as Refuse
    from .declaration.isolated import isolated as isolated
    from .declaration.tool import Checkable as Checkable
    from .declaration.tool import Tool as Tool
    from .declaration.tool import ToolContext as ToolContext
    from .declaration.tool import tool as tool
    from .exceptions import EffectUnknown as EffectUnknown
    from .exceptions import ModelRetry as ModelRetry
    from .exceptions import ToolFailed as ToolFailed
    from .services.approvals import Decision as Decision
    from .values.parts import FilePart as FilePart
    from .values.parts import Part as Part
    from .values.parts import ProviderCallPart as ProviderCallPart
    from .values.parts import ProviderResultPart as ProviderResultPart
    from .values.parts import ReasoningPart as ReasoningPart
    from .values.parts import SourcePart as SourcePart
    from .values.parts import TextPart as TextPart
    from .values.parts import ToolCallPart as ToolCallPart
    from .values.parts import ToolResultPart as ToolResultPart
    from .values.system import SYSTEM as SYSTEM
    from .values.usage import Usage as Usage

__version__ = "0.1.0"

_HOMES = {
    "AccessPolicy": "access",
    "OwnerPolicy": "access",
    "SYSTEM": "values.system",
    "Agent": "agent",
    "Answer": "declaration.guard",
    "Ask": "declaration.guard",
    "AskAgain": "declaration.guard",
    "Checkable": "declaration.tool",
    "ContextBlock": "declaration.context",
    "Decision": "services.approvals",
    "Deny": "declaration.guard",
    "EffectUnknown": "exceptions",
    "FilePart": "values.parts",
    "Files": "declaration.files",
    "Guard": "declaration.guard",
    "Limits": "declaration.agent",
    "ModelRetry": "exceptions",
    "NewFile": "declaration.files",
    "Part": "values.parts",
    "ProposedCall": "declaration.guard",
    "ProviderCallPart": "values.parts",
    "ProviderResultPart": "values.parts",
    "ReasoningPart": "values.parts",
    "Redact": "declaration.guard",
    "Refuse": "declaration.guard",
    "RunContext": "declaration.context",
    "SourcePart": "values.parts",
    "TextPart": "values.parts",
    "Tool": "declaration.tool",
    "ToolCallPart": "values.parts",
    "ToolContext": "declaration.tool",
    "ToolFailed": "exceptions",
    "ToolResultPart": "values.parts",
    "ToolSource": "declaration.choice",
    "Usage": "values.usage",
    "isolated": "declaration.isolated",
    "tool": "declaration.tool",
}

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604 - the names are the keys above


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that importing agentcore needs no settings."""
    if name not in _HOMES:
        raise AttributeError(f"module 'agentcore' has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
