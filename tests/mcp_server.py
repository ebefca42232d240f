"""An MCP server in a process of its own, made with the SDK: what its tools do is told, and seen, by files.

`python tests/mcp_server.py DIRECTORY` speaks over its input and output; with `--http`, at an address that it writes to
the directory. With `--legacy`, it knows no version of the protocol after 2025. What happens is a line of `notes` there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.runner import serve_loop
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_REQUEST, METHOD_NOT_FOUND, ToolAnnotations
from pydantic import BaseModel

PICTURE = b"\x89PNG\r\n\x1a\n" + b"\0" * 92
QUERY = "Look something up."


class Answer(BaseModel):
    """What somebody is asked for."""

    sure: bool


async def before_2026(ctx: Any, call_next: Any) -> Any:
    """Know nothing of the version of 2026, which has no sessions."""
    if ctx.method == "server/discover":
        raise MCPError(code=METHOD_NOT_FOUND, message="Method not found")
    return await call_next(ctx)


def make(room: Path, *, legacy: bool) -> MCPServer:
    """A server whose room is a directory."""
    server = MCPServer("tests", middleware=[before_2026] if legacy else None)

    def note(text: str) -> None:
        with (room / "notes").open("a") as notes:
            notes.write(f"{text}\n")

    def description() -> str:
        told = room / "description"
        return told.read_text() if told.exists() else QUERY

    def search(query: str, limit: int = 3) -> dict[str, Any]:
        note(f"search {query} {limit}")
        return {"found": [f"{query} {number}" for number in range(limit)]}

    async def slow(text: str, ctx: Context) -> str:
        note(f"slow {text}")
        try:
            while not (room / "go").exists():  # noqa: ASYNC110 - another process makes it
                await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            note(f"cancelled {text}")
            raise
        note(f"done {text}")
        return f"{text} is done"

    def nothing(value: Any = None) -> str:
        note(f"nothing {value!r}")
        return repr(value)

    def fails(why: str) -> str:
        note("fails")
        raise ToolError(why)

    def picture() -> Image:
        return Image(data=PICTURE, format="png")

    async def steps(ctx: Context) -> str:
        for number in range(3):
            await ctx.report_progress(number, 3, f"step {number}")
        return "all"

    async def ask(ctx: Context) -> str:
        said = await ctx.elicit("Are you sure?", Answer)
        return str(said)

    def flood() -> str:
        note("flood")
        return "x" * 10_000_000

    def die() -> str:
        note("die")
        os._exit(1)

    async def change(text: str, ctx: Context) -> str:
        (room / "description").write_text(text)
        server.remove_tool("search")
        server.add_tool(search, description=description(), structured_output=True)
        if legacy:
            await ctx.session.send_tool_list_changed()
        else:
            await ctx.notify_tools_changed()
        return "changed"

    def refuse() -> str:
        note("refuse")
        raise MCPError(code=INVALID_REQUEST, message="Not like this.")

    reads = ToolAnnotations(read_only_hint=True)
    server.add_tool(search, description=description(), annotations=reads, structured_output=True)
    server.add_tool(slow, description="Take a while.", annotations=ToolAnnotations(idempotent_hint=True))
    for function in (nothing, fails, picture, steps, ask, flood, die, change, refuse):
        server.add_tool(function, structured_output=False)
    server.add_tool(nothing, name="Odd-Name.é", structured_output=False)
    note(f"started {os.getpid()}")
    return server


async def before_2026_over_pipes(server: MCPServer) -> None:
    """Serve as a server did before 2026, which does not know either that there is another way."""
    inner = server._lowlevel_server
    async with stdio_server() as (said, answers), inner.lifespan(inner) as state:
        await serve_loop(inner, said, answers, lifespan_state=state)


class Broken:
    """Answers one call with the status that the file `broken` of the room names, and passes on everything else."""

    def __init__(self, app: Any, room: Path) -> None:
        self.app, self.broken, self.notes = app, room / "broken", room / "notes"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, or break it."""
        if scope["type"] != "http" or scope["method"] != "POST" or not self.broken.exists():
            return await self.app(scope, receive, send)
        body, more = b"", True
        while more:
            part = await receive()
            body, more = body + part.get("body", b""), part.get("more_body", False)
        if json.loads(body)["method"] != "tools/call":
            whole = [{"type": "http.request", "body": body}]

            async def again() -> Any:
                return whole.pop() if whole else await receive()

            return await self.app(scope, again, send)
        status = int(self.broken.read_text())
        self.broken.unlink()
        with self.notes.open("a") as notes:
            notes.write(f"answered with {status}\n")
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/html")]})
        await send({"type": "http.response.body", "body": b"<h1>No.</h1>"})


def main() -> None:
    """Serve until the input ends, or until the process is ended."""
    reader = argparse.ArgumentParser()
    reader.add_argument("room", type=Path)
    reader.add_argument("--http", action="store_true")
    reader.add_argument("--legacy", action="store_true")
    asked = reader.parse_args()
    server = make(asked.room, legacy=asked.legacy)
    if not asked.http:
        return asyncio.run(before_2026_over_pipes(server)) if asked.legacy else server.run()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
        app = Broken(server.streamable_http_app(), asked.room)
        runs = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        (asked.room / "address").write_text(address)
        asyncio.run(runs.serve(sockets=[listener]))


if __name__ == "__main__":
    sys.exit(main())
