"""What an adapter for a provider is made of: the protocol of a model, its events, and help with failures and names."""

from __future__ import annotations

from ..declaration.model import (
    AgentModel,
    CallRequested,
    DataFound,
    FileProduced,
    ModelEvent,
    ModelMessage,
    ModelRequest,
    OutputDelta,
    OutputProduced,
    ProviderCalled,
    ProviderReturned,
    ReasoningDelta,
    ReasoningEnded,
    SourceFound,
    StepFinished,
    TextDelta,
    TextEnded,
    ToolSpec,
    UsageReported,
)
from ..values.finish import FinishReason
from .failures import failure_of
from .named import model_of
from .names import call_id, tool_name
from .origins import origin

__all__ = [
    "AgentModel",
    "CallRequested",
    "DataFound",
    "FileProduced",
    "FinishReason",
    "ModelEvent",
    "ModelMessage",
    "ModelRequest",
    "OutputDelta",
    "OutputProduced",
    "ProviderCalled",
    "ProviderReturned",
    "ReasoningDelta",
    "ReasoningEnded",
    "SourceFound",
    "StepFinished",
    "TextDelta",
    "TextEnded",
    "ToolSpec",
    "UsageReported",
    "call_id",
    "failure_of",
    "model_of",
    "origin",
    "tool_name",
]
