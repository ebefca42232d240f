"""agentcore's tables."""

from __future__ import annotations

from .approval import Approval
from .message import Message
from .run import Run, RunLink, Step
from .thread import Thread
from .tool_call import ToolCall

__all__ = ["Approval", "Message", "Run", "RunLink", "Step", "Thread", "ToolCall"]
