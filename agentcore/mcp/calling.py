"""A call of a server's tool: what is sent, and what it means that it failed.

A call that the server has surely not read has failed, and nothing has happened. Of one that it may have read, only its
answer says what became of it; without one, a person finds out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mcp.client.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CONNECTION_CLOSED,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    CallToolRequest,
    CallToolRequestParams,
    CallToolResult,
    InputRequiredResult,
)
from pydantic import TypeAdapter

from ..conf import get_settings
from ..declaration.tool import ToolContext
from ..exceptions import EffectUnknown, ModelRetry, ToolFailed
from ..values import jsontext
from ..values.functions import kind_of
from ..values.logextra import log_extra
from .connection import ServerAway, connection_to
from .results import result_of, text_of
from .sending import Sending
from .servers import Server
from .shown import Shown

logger = logging.getLogger("agentcore.mcp")

ANSWER: TypeAdapter[CallToolResult | InputRequiredResult] = TypeAdapter(CallToolResult | InputRequiredResult)
LONGEST_WORDS = 2000
NOT_REACHED = "The tool's server could not be reached, so nothing has happened. Try again later, or go on without it."
CHANGED = "The tool has changed on its server since it was asked for, so it was not run. Ask for it again."
NO_INPUT = "The tool's server asks for more than the arguments, which nobody here gives it. Do without this tool."
NO_RESULT = "The tool's server was sent the call, and gave no result that can be read."
REFUSED = (INVALID_PARAMS, METHOD_NOT_FOUND)
ARRIVAL = 0.8
"""The part of a tool's time within which its server must be reached: after it, nobody could tell whether it was."""


@dataclass(frozen=True)
class ServerCall:
    """The body of one tool: asks its server, as long as the server has the tool as it was shown."""

    server: Server
    tool: Shown
    fresh_seconds: float
    timeout: float | None

    async def __call__(self, arguments: Mapping[str, Any], ctx: ToolContext) -> Any:
        """Return the server's result; raises `ToolFailed` or `ModelRetry` where it has failed, else `EffectUnknown`."""
        try:
            answer = await self._answer(arguments, ctx)
        except _Lost as error:
            self._log("mcp_not_reached", "could not be reached", error.__cause__)
            raise ToolFailed(NOT_REACHED) from error
        except MCPError as error:
            if error.error.code in REFUSED:
                raise ModelRetry(_words("The tool's server refused the call: ", error.error.message)) from error
            raise ServerError(_words("", error.error.message)) from error
        except EffectUnknown as error:
            self._log("mcp_no_result", "was sent a call, and gave no result", error.__cause__)
            raise
        return _read(answer)

    async def _answer(self, arguments: Mapping[str, Any], ctx: ToolContext) -> CallToolResult | InputRequiredResult:
        """Ask the server, in a new session where the one there is turns out to be over.

        Raises `_Lost` where the call has surely not arrived; that is found out before the tool's time is over.
        """
        seconds = ARRIVAL * (get_settings().tool_timeout if self.timeout is None else self.timeout)
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                try:
                    return await self._ask(arguments, ctx, limit)
                except _Lost:
                    return await self._ask(arguments, ctx, limit)
        except TimeoutError as error:
            raise _Lost from error

    async def _ask(
        self, arguments: Mapping[str, Any], ctx: ToolContext, limit: asyncio.Timeout
    ) -> CallToolResult | InputRequiredResult:
        async def show(progress: float, total: float | None, message: str | None) -> None:
            ctx.progress({"progress": progress, "total": total, "message": message})

        async def send(client: Client) -> CallToolResult | InputRequiredResult:
            asked = CallToolRequestParams(name=self.tool.name, arguments=dict(arguments))
            # Not `call_tool`, which raises for a result that is not as the tool has declared it: it has happened.
            return await client.session.send_request(CallToolRequest(params=asked), ANSWER, progress_callback=show)

        sending = Sending(on_begin=lambda: limit.reschedule(None))
        connection = connection_to(self.server)
        try:
            if self.tool not in map(Shown.of, await connection.tools(self.fresh_seconds)):
                raise ToolFailed(CHANGED)
            return await connection.ask(send, sending)
        except ToolFailed:
            raise
        except ServerAway as error:
            raise _Lost from error
        except Exception as error:
            if isinstance(error, MCPError) and error.error.code in REFUSED:
                raise
            if sending.has_not_arrived(is_modern=connection.is_modern):
                connection.leave()  # it is over, or the server knows it no more
                raise _Lost from error
            if isinstance(error, MCPError) and not _is_made_up(error, sending):
                raise
            raise EffectUnknown(NO_RESULT) from error

    def _log(self, action: str, what: str, error: BaseException | None) -> None:
        why = str(error) if isinstance(error, ServerAway) else kind_of(error)
        logger.warning("the MCP server %s %s: %s", self.server.label, what, why, extra=log_extra(action))


class ServerError(Exception):
    """The server has answered with an error, as a body does that raises: it may have acted in part."""


class _Lost(Exception):
    """The server has surely not acted on the request: it was not sent, or refused before it was read."""


def _is_made_up(error: MCPError, sending: Sending) -> bool:
    """Whether the SDK has made up this error for want of an answer: the session broke off, or nobody could read it."""
    no_answer = error.error.code in (CONNECTION_CLOSED, PARSE_ERROR)
    return no_answer or (sending.status is not None and sending.status >= 400 and error.error.code == INTERNAL_ERROR)


def _read(answer: CallToolResult | InputRequiredResult) -> Any:
    if isinstance(answer, InputRequiredResult):
        raise ToolFailed(NO_INPUT)
    if answer.is_error:
        raise ToolFailed(_words("", text_of(answer)) or "The tool failed, and its server does not say why.")
    return result_of(answer)


def _words(before: str, said: str) -> str:
    return before + jsontext.shorten(jsontext.clean_text(said[:LONGEST_WORDS]), LONGEST_WORDS)
