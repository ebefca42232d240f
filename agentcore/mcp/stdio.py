"""A server as a process of this worker: messages are lines of its standard input and output.

The SDK's own transport reads a line of any length, and does not tell whether a message was written. The rest of the
protocol is the SDK's.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self

import anyio
from anyio.streams.memory import MemoryObjectSendStream
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCNotification, jsonrpc_message_adapter

from ..values.logextra import log_extra
from .sending import SENDING

logger = logging.getLogger("agentcore.mcp")

LONGEST_MESSAGE = 8_000_000
"""Bytes of one message; a server that sends a longer one is left."""
GRACE = 1.0
"""Seconds that a process has to end by itself, and again after SIGTERM."""
LOOK = 0.01


@asynccontextmanager
async def over_pipes(
    command: Sequence[str], env: Mapping[str, str], cwd: str | None, on_end: Callable[[], None]
) -> AsyncIterator[tuple[Any, Any]]:
    """Start a server and give the streams of a session with it; it is ended, with all its processes, on leaving.

    What it writes to its standard error is nobody's. `on_end` is called when it has said its last word. Raises
    `OSError` where it cannot be started.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        env={**get_default_environment(), **env},
        cwd=cwd,
        start_new_session=True,
        limit=LONGEST_MESSAGE,
    )
    said, heard = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    listening = asyncio.create_task(_listen(process, said, on_end), name="agentcore-mcp-listening")
    try:
        yield heard, Pipe(process)
    finally:
        heard.close()
        try:
            await _stop(process)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            said.close()


class Pipe:
    """What the session writes to: each message is one line of the process's input."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        self._input = process.stdin

    async def send(self, item: SessionMessage, /) -> None:
        """Write a message; raises `BrokenResourceError` where the process cannot have read all of it."""
        line = item.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"
        sending = SENDING.get()
        if sending is not None:
            sending.begin()
        try:
            self._input.write(line)
            if not isinstance(item.message, JSONRPCNotification):  # a word in passing waits for nobody
                await self._input.drain()
        except OSError as error:
            # Raised for a pipe that is broken, or breaks while the end of the line still waits: a line without its
            # end is no message.
            if sending is not None:
                sending.has_begun = False
            raise anyio.BrokenResourceError from error

    async def aclose(self) -> None:
        """Close the process's input, by which it is told to end."""
        self._input.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


async def _listen(
    process: Process, said: MemoryObjectSendStream[SessionMessage | Exception], on_end: Callable[[], None]
) -> None:
    """Pass on each line that is a message, until there are no more, or one is too long."""
    assert process.stdout is not None
    try:
        async with said:
            while line := await process.stdout.readline():
                if message := _read(line):
                    await said.send(message)
    except ValueError:
        about = log_extra("mcp_too_long")
        logger.warning("an MCP server is left: it sent more than %s bytes at once", LONGEST_MESSAGE, extra=about)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        return  # the session is being left
    finally:
        on_end()


def _read(line: bytes) -> SessionMessage | None:
    """Return a line as a message; None for one that is none, such as a greeting that some servers print."""
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError:
        logger.debug("a line of %s bytes of an MCP server is no message", len(line))
        return None


async def _stop(process: Process) -> None:
    """Have the process end: by the end of its input, by SIGTERM, by SIGKILL."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        if not await _has_ended(process):
            _signal(process, signal.SIGTERM)
            await _has_ended(process)
            _signal(process, signal.SIGKILL)
    finally:
        if process.returncode is None:  # also where the loop ends meanwhile, which must not leave it unreaped
            _signal(process, signal.SIGKILL)
            await _has_ended(process)
        # Nothing public lets go of its pipes while a process that it started has them too.
        process._transport.close()  # type: ignore[attr-defined]


async def _has_ended(process: Process) -> bool:
    """Whether the process ends within its grace; `wait()` would also wait for whoever has inherited its pipes."""
    for _ in range(round(GRACE / LOOK)):
        if process.returncode is not None:
            return True
        await asyncio.sleep(LOOK)
    return process.returncode is not None


def _signal(process: Process, number: int) -> None:
    """Send a signal to the process and to those it has started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
