"""A server as a process: what of a message has arrived, and that nothing of it is left."""

from __future__ import annotations

import sys
from typing import Any

import anyio
import pytest
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCRequest

from agentcore.mcp import StdioServer, stdio
from agentcore.mcp.sending import SENDING, Sending
from tests.stack import wait_for

pytestmark = pytest.mark.once
WORD = '{"jsonrpc": "2.0", "method": "ready"}'


def program(code: str) -> StdioServer:
    return StdioServer(sys.executable, ["-u", "-c", f"import os, sys, time\n{code}"])


def request(size: int = 1) -> SessionMessage:
    return SessionMessage(JSONRPCRequest(jsonrpc="2.0", id=1, method="x" * size))


async def sent(server: StdioServer, size: int = 1) -> tuple[Sending, Any]:
    """How far a request has come that was sent after the program's first word."""
    sending = Sending()
    SENDING.set(sending)
    async with server.streams(lambda: None) as (heard, pipe):
        await heard.receive()
        try:
            await pipe.send(request(size))
        except anyio.BrokenResourceError as error:
            return sending, error
    return sending, None


async def test_a_request_to_a_program_that_reads_no_more_has_not_begun():
    sending, error = await sent(program(f"os.close(0); print('{WORD}'); time.sleep(60)"))
    assert error is not None and not sending.has_begun


async def test_a_request_that_a_program_could_read_in_part_only_has_not_begun():
    read_some = f"print('{WORD}'); os.read(0, 100_000); os.close(0); time.sleep(60)"
    sending, error = await sent(program(read_some), size=3_000_000)
    assert error is not None and not sending.has_begun


async def test_a_request_that_lies_in_the_pipe_has_begun():
    sending, error = await sent(program(f"print('{WORD}'); time.sleep(60)"))
    assert error is None and sending.has_begun


async def test_what_is_no_message_is_passed_over():
    async with program(f"print('Hello!'); print('{WORD}'); time.sleep(60)").streams(lambda: None) as (heard, _):
        assert (await heard.receive()).message.method == "ready"


async def test_a_message_without_an_end_ends_the_session(monkeypatch):
    monkeypatch.setattr(stdio, "LONGEST_MESSAGE", 10_000)
    ended: list[str] = []
    async with program("while True: sys.stdout.write('x' * 1000)").streams(lambda: ended.append("ended")) as (heard, _):
        with pytest.raises(anyio.EndOfStream):
            await heard.receive()
    assert ended == ["ended"]


async def test_a_program_that_does_not_listen_is_killed_with_those_it_started(tmp_path):
    child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    start = "import subprocess, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    start += f"p = subprocess.Popen([sys.executable, '-c', {child!r}]); "
    start += f"open({str(tmp_path / 'pids')!r}, 'w').write(str(p.pid)); print('{WORD}'); time.sleep(600)"
    async with program(start).streams(lambda: None) as (heard, _):
        await heard.receive()
    pid = int((tmp_path / "pids").read_text())
    wait_for(lambda: not is_there(pid), 20, "the program's own program to end")


def is_there(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
