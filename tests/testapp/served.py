"""An agent with the tools of an MCP server in a directory that the test names; without one it has none."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from agentcore import Agent, RunContext, ToolSource
from agentcore.mcp import StdioServer, mcp_tools
from tests.testapp.scripts import AsksOnce

PLACE_VARIABLE = "AGENTCORE_TEST_MCP"
PROGRAM = Path(__file__).resolve().parent.parent / "mcp_server.py"


async def of_the_place(about: RunContext) -> Any:
    """Give what the server offers."""
    server = StdioServer(sys.executable, [str(PROGRAM), os.environ[PLACE_VARIABLE]])
    return await mcp_tools(server, prefix="far").function(about)


served = Agent(
    name="served",
    version="1",
    model=AsksOnce("far_slow"),
    instructions="Do what the test asks.",
    tools=[ToolSource(of_the_place)],
    on_busy="parallel",
)
