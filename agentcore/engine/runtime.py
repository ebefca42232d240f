"""Where the engine's blocking work runs: its own database work, and the application's code."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.db import close_old_connections

from ..definition import AgentDefinition

P = ParamSpec("P")
T = TypeVar("T")

APP_THREADS = 8


def this_worker() -> str:
    """Return a name for this process that an operator can find: host and pid."""
    return f"{socket.gethostname()}:{os.getpid()}"


@dataclass(frozen=True)
class Runtime:
    """How one process drives runs.

    `inline` keeps the application's code on the calling thread and its database
    connection, so that a plain Django `TestCase` sees everything; otherwise it
    runs in threads of its own, several calls at a time. `definition` replaces the
    registered agent for this drive. `gives_up_on` are exceptions that mean the
    process must let go (a job's deadline): the run has not failed, others take over.
    """

    worker: str
    inline: bool = False
    definition: AgentDefinition | None = None
    gives_up_on: tuple[type[BaseException], ...] = ()

    async def db(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the engine's own database work: one thread, one connection a process."""
        return await sync_to_async(function, thread_sensitive=True)(*args, **kwargs)

    async def app(self, function: Callable[[], T]) -> T:
        """Run the application's blocking code; it may use the ORM."""
        if self.inline:
            return await sync_to_async(function, thread_sensitive=True)()
        call: Callable[[], T] = partial(_like_a_request, function)
        return await sync_to_async(call, thread_sensitive=False, executor=_threads())()


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=APP_THREADS, thread_name_prefix="agentcore-app")


def _like_a_request(function: Callable[[], T]) -> T:
    """Wrap a unit of work as Django wraps a request, so that no stale connection is used or kept."""
    close_old_connections()
    try:
        return function()
    finally:
        close_old_connections()
