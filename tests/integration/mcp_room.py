"""Real MCP servers in processes of their own, and what happened in them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agentcore.mcp import HttpServer, StdioServer
from tests.stack import wait_for

PROGRAM = Path(__file__).resolve().parent.parent / "mcp_server.py"


@dataclass(frozen=True)
class Place:
    """A directory, and the server that lives in it."""

    directory: Path
    server: StdioServer | HttpServer

    @property
    def notes(self) -> list[str]:
        """What happened in the server, without its starts."""
        return [note for note in self._lines() if not note.startswith("started")]

    @property
    def pids(self) -> list[int]:
        """The processes that were started, in order."""
        return [int(note.split()[1]) for note in self._lines() if note.startswith("started")]

    def wait_for(self, note: str) -> None:
        """Wait until this has happened."""
        wait_for(lambda: note in self.notes, 30, f"the server to note {note!r}; it has {self.notes}")

    def go(self) -> None:
        """Let slow calls end."""
        (self.directory / "go").touch()

    def describe(self, text: str) -> None:
        """Have servers that start from now on describe their `search` otherwise."""
        (self.directory / "description").write_text(text)

    def break_one_call(self, status: int) -> None:
        """Have one call answered with an HTTP status, and not passed on to its tool."""
        (self.directory / "broken").write_text(str(status))

    def kill(self) -> None:
        """Kill the server that was started last."""
        os.kill(self.pids[-1], signal.SIGKILL)

    def _lines(self) -> list[str]:
        notes = self.directory / "notes"
        return notes.read_text().splitlines() if notes.exists() else []


def stdio(directory: Path, *options: str) -> Place:
    """A place whose server is started by whoever uses it."""
    return Place(directory, StdioServer(sys.executable, [str(PROGRAM), str(directory), *options]))


@contextmanager
def http(directory: Path, *options: str) -> Iterator[Place]:
    """A place whose server is there while the block lasts, at an address."""
    started = subprocess.Popen([sys.executable, str(PROGRAM), str(directory), "--http", *options])
    try:
        wait_for(lambda: (directory / "address").exists(), 60, "the server to listen")
        yield Place(directory, HttpServer((directory / "address").read_text()))
    finally:
        started.kill()
        started.wait()


KINDS = ("stdio", "http", "stdio --legacy", "http --legacy")


@contextmanager
def place(kind: str, directory: Path) -> Iterator[Place]:
    """A place of one of the kinds."""
    transport, *options = kind.split()
    if transport == "stdio":
        yield stdio(directory, *options)
        return
    with http(directory, *options) as found:
        yield found
