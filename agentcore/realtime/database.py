"""A websocket's database work: short, on a few threads of its own, leaving no connection behind.

Channels' own helper runs all sockets on one thread, where a slow query of one holds up every other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from django.db import connections

__all__ = ["THREADS", "query"]

THREADS = 4

P = ParamSpec("P")
T = TypeVar("T")

_threads = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="agentcore-socket")


async def query(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function that uses the ORM, and give its connections back."""

    def work() -> T:
        try:
            return function(*args, **kwargs)
        finally:
            connections.close_all()

    return await asyncio.get_running_loop().run_in_executor(_threads, work)
