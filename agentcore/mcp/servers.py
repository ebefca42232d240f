"""Where a server is: a program that each worker starts, or an address. What may be a secret of it is never shown."""

from __future__ import annotations

import inspect
import os
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from ..declaration import declared
from ..exceptions import UserError
from . import http, stdio

HeaderChoice = Mapping[str, str] | Callable[[], Mapping[str, str] | Awaitable[Mapping[str, str]]]


class Server(Protocol):
    """A server as a connection needs it."""

    @property
    def identity(self) -> Hashable:
        """Equal for servers that may share a connection."""

    @property
    def label(self) -> str:
        """What sentences call it; holds no secret."""

    def streams(self, on_end: Callable[[], None]) -> AbstractAsyncContextManager[tuple[Any, Any]]:
        """Return the streams of a new session; `on_end` is called where it is known to be over."""


@dataclass(frozen=True)
class StdioServer:
    """A server that each worker starts as a process of its own, and speaks to over its input and output.

    It is started with a small environment (`PATH`, `HOME` and the like) and what `env` adds, never with all that
    the worker has in its own.
    """

    command: str
    args: Sequence[str] = field(default=(), repr=False)
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        """Raise `UserError` for what cannot be started."""
        declared.text("StdioServer: command", self.command, 4096)
        object.__setattr__(self, "args", declared.listed("StdioServer: args", self.args, "texts"))
        if not all(isinstance(argument, str) for argument in self.args):
            raise UserError("StdioServer: args has an item that is no text: write each argument in quotes.")
        object.__setattr__(self, "env", _texts("StdioServer: env", self.env))

    @property
    def identity(self) -> Hashable:
        """Equal for servers that are started alike."""
        return (self.command, self.args, frozenset(self.env.items()), str(self.cwd))

    @property
    def label(self) -> str:
        """The name of its program; an argument may be a secret."""
        return os.path.basename(self.command)

    def streams(self, on_end: Callable[[], None]) -> AbstractAsyncContextManager[tuple[Any, Any]]:
        """Return the streams of a new session with a new process."""
        cwd = None if self.cwd is None else os.fspath(self.cwd)
        return stdio.over_pipes([self.command, *self.args], self.env, cwd, on_end)


@dataclass(frozen=True)
class HttpServer:
    """A server behind an address that speaks streamable HTTP.

    `headers` are sent with each request: a mapping, or a function without arguments, which is asked before each
    request, for a key that changes. It is called on the worker's event loop, so it must not block; it may be `async`.
    """

    url: str = field(repr=False)
    headers: HeaderChoice = field(default_factory=dict, repr=False)
    label: str = field(init=False)

    def __post_init__(self) -> None:
        """Raise `UserError` for what is no address, or no headers."""
        declared.text("HttpServer: url", self.url, 4096)
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError('HttpServer: url is no address: write one such as "https://tools.example.com/mcp".')
        if parts.username or parts.password:
            raise UserError('HttpServer: url has a password in it: send it with headers={"Authorization": …}.')
        if callable(self.headers):
            declared.function("HttpServer: headers", self.headers, "")
        else:
            object.__setattr__(self, "headers", _texts("HttpServer: headers", self.headers))
        object.__setattr__(self, "label", parts.netloc)

    @property
    def identity(self) -> Hashable:
        """Equal for servers that are asked alike."""
        return (self.url, self.headers if callable(self.headers) else frozenset(self.headers.items()))

    def streams(self, on_end: Callable[[], None]) -> AbstractAsyncContextManager[tuple[Any, Any]]:
        """Return the streams of a new session; that it is over is known only when a request fails."""
        return http.over_http(self.url, self._headers)

    async def _headers(self) -> Mapping[str, str]:
        if not callable(self.headers):
            return self.headers
        found: Any = self.headers()
        return _texts("What headers gave", await found if inspect.isawaitable(found) else found)


def _texts(what: str, given: Any) -> dict[str, str]:
    """Return a mapping of texts as a dict of its own; raises `UserError`, which shows none of it, for anything else."""
    if not isinstance(given, Mapping) or not all(isinstance(item, str) for pair in given.items() for item in pair):
        raise UserError(f"{what}: write a dict of names and texts.")
    return dict(given)
