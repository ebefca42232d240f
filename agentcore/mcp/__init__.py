"""Tools of a Model Context Protocol server, for an agent: `Agent(tools=[lookup, mcp_tools(HttpServer("https://…"))])`."""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("mcp") is None:
    raise ModuleNotFoundError(
        'agentcore.mcp needs the SDK of the protocol, which is not installed: pip install "django-agentcore[mcp]".',
        name="mcp",
    )

from .rules import Rule
from .servers import HttpServer, StdioServer
from .source import mcp_tools

__all__ = ["HttpServer", "Rule", "StdioServer", "mcp_tools"]
