"""Gives an agent the tools of a server: listed before each step, as tools of its own."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from mcp_types import Tool as ServerTool

from ..declaration import declared
from ..declaration.choice import ToolSource
from ..declaration.context import RunContext
from ..declaration.tool import LONGEST_DESCRIPTION, Checkable, NeedsApproval, Tool, conduct
from ..exceptions import RunError, UserError
from ..values import jsontext
from ..values.logextra import log_extra
from .arguments import ServerArguments, UnusableSchema
from .calling import ServerCall
from .connection import ServerAway, connection_to
from .naming import named
from .rules import Policy, Rules
from .servers import HttpServer, StdioServer
from .shown import Shown

logger = logging.getLogger("agentcore.mcp")

NO_TOOLS = "What the agent may use could not be found out. Try again; if it lasts, tell whoever runs this site."
LONGEST_PREFIX = 32


def mcp_tools(
    server: StdioServer | HttpServer,
    *,
    prefix: str = "",
    needs_approval: NeedsApproval = False,
    effect: str | Checkable | None = None,
    timeout: float | None = None,
    rules: Rules | None = None,
    trust_annotations: bool = False,
    required: bool = True,
    fresh_seconds: float = 60.0,
) -> ToolSource:
    """Give an agent the tools of an MCP server: `Agent(tools=[lookup, mcp_tools(HttpServer("https://…"))])`.

    With `prefix="crm"`, its tool `search` is called `crm_search`. `needs_approval`, `effect` and `timeout` are those of
    `tool`, for all of them; `rules` says otherwise of single ones, by the server's name or by a function of the tool.
    A tool that nothing is said of is `unsafe`; with `trust_annotations`, the server's word is taken for it that one is
    read-only (`pure`) or idempotent. Where the server is away, a run fails with `tools_failed`, unless it is not
    `required`: then the run goes on without its tools. They are listed again after `fresh_seconds`, and when the server
    says that they have changed. Raises `UserError` for what cannot be used so.
    """
    if not isinstance(server, StdioServer | HttpServer):
        raise UserError(f"mcp_tools: server is a {type(server).__name__}: write StdioServer(…) or HttpServer(…).")
    if prefix and not (prefix.isascii() and prefix.replace("_", "").isalnum() and prefix == prefix.lower()):
        raise UserError(f"mcp_tools: prefix is {declared.shown(prefix)}: use a–z, 0–9 and _.")
    if len(prefix) > LONGEST_PREFIX:
        raise UserError(f"mcp_tools: prefix is {declared.shown(prefix)}: use at most {LONGEST_PREFIX} characters.")
    declared.positive("mcp_tools: fresh_seconds", fresh_seconds)
    policy = Policy(needs_approval, effect, timeout, trust_annotations, rules if rules is not None else {})
    conduct(_nothing, f"of {server.label}", needs_approval, effect or "unsafe", timeout, 0)
    return ToolSource(Listed(server, prefix, policy, fresh_seconds, required))


async def _nothing(arguments: Any, ctx: Any) -> None:
    """Stand for the body of a tool that is yet to be listed."""


@dataclass(eq=False)
class Listed:
    """What gives the tools of one server to a run; keeps those it has made while the server lists the same."""

    server: StdioServer | HttpServer
    prefix: str = field(repr=False)
    policy: Policy = field(repr=False)
    fresh_seconds: float = field(repr=False)
    required: bool = field(repr=False)
    _made: tuple[tuple[ServerTool, ...], tuple[Tool, ...]] | None = field(default=None, init=False, repr=False)

    async def __call__(self, about: RunContext) -> tuple[Tool, ...]:
        """Return the tools, as the server lists them now; raises `RunError` where they are required and unknown."""
        try:
            listed = await connection_to(self.server).tools(self.fresh_seconds)
        except ServerAway as error:
            return self._without(error, about)
        if self._made is None or self._made[0] is not listed:
            self._made = listed, self._make(listed)
        return self._made[1]

    def _without(self, error: ServerAway, about: RunContext) -> tuple[Tool, ...]:
        """Return no tools, or what was listed before: a call of one of those fails, and says why."""
        extra = log_extra("tools_failed", about.run_id, about.attempt)
        logger.warning("the MCP server %s did not say which tools it has: %s", self.server.label, error, extra=extra)
        if self._made is not None:
            return self._made[1]
        if not self.required:
            return ()
        detail = f"The MCP server {self.server.label} did not say which tools it has: {error}."
        raise RunError(NO_TOOLS, code="tools_failed", detail=detail) from error

    def _make(self, listed: tuple[ServerTool, ...]) -> tuple[Tool, ...]:
        by_name = {tool.name: tool for tool in listed}
        names = named(by_name, self.prefix)
        made = (self._tool(names[name], tool) for name, tool in by_name.items())
        return tuple(tool for tool in made if tool is not None)

    def _tool(self, name: str, tool: ServerTool) -> Tool | None:
        """Return a tool as the engine takes it; None for one that is not offered, or cannot be."""
        rule, shown = self.policy.rule(tool), Shown.of(tool)
        if not rule.offered:
            return None
        try:
            arguments = ServerArguments.of(f"Tool {name}", tool.input_schema, shown.digest)
        except UnusableSchema as error:
            about = log_extra("mcp_tool_left_out")
            logger.warning("tool %s of the MCP server %s is left out: %s", name, self.server.label, error, extra=about)
            return None
        body = ServerCall(self.server, shown, self.fresh_seconds, rule.timeout)
        effect = rule.effect or "unsafe"
        kind = conduct(body, name, rule.needs_approval, effect, rule.timeout, rule.retries)
        described = jsontext.clean_text(tool.description or tool.title or "")
        return Tool(
            name=name,
            description=jsontext.shorten(described, LONGEST_DESCRIPTION - len(jsontext.TRUNCATED)),
            function=body,
            signature=Whole(arguments),
            effect=kind,
            check=effect.check if isinstance(effect, Checkable) else None,
            needs_approval=rule.needs_approval or False,
            timeout=rule.timeout,
            retries=rule.retries,
        )


@dataclass(frozen=True)
class Whole:
    """What the body of a server's tool is called with: the arguments as one object, as they go to the server."""

    arguments: ServerArguments

    def keywords(self, stored: Any, ctx: Any) -> dict[str, Any]:
        """Return what to call the body with; raises what `ServerArguments.given` raises."""
        return {"arguments": self.arguments.given(stored), "ctx": ctx}
