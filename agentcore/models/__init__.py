"""agentcore's tables."""

from __future__ import annotations

from .approval import Approval
from .message import Message
from .run import Run
from .run_link import RunLink
from .step import Step
from .sweep_lease import SweepLease
from .thread import Thread
from .tool_call import ToolCall

__all__ = ["Approval", "Message", "Run", "RunLink", "Step", "SweepLease", "Thread", "ToolCall"]
