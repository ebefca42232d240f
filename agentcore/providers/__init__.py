"""What an adapter for a provider is made of: the protocol of a model, its events, and help with failures and names."""

from __future__ import annotations

from ..declaration.model import (
    AgentModel,
    CallRequested,
    DataFound,
    ModelEvent,
    ModelMessage,
    ModelRequest,
    OutputDelta,
    OutputProduced,
    ReasoningDelta,
    SourceFound,
    StepFinished,
    TextDelta,
    ToolSpec,
    UsageReported,
)
from ..values.finish import FinishReason
from .failures import failure_of
from .names import call_id, tool_name

__all__ = [
    "AgentModel",
    "CallRequested",
    "DataFound",
    "FinishReason",
    "ModelEvent",
    "ModelMessage",
    "ModelRequest",
    "OutputDelta",
    "OutputProduced",
    "ReasoningDelta",
    "SourceFound",
    "StepFinished",
    "TextDelta",
    "ToolSpec",
    "UsageReported",
    "call_id",
    "failure_of",
    "tool_name",
]
