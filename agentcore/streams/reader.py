"""Reads streams for an event loop, on a thread of its own that keeps no connection while idle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from uuid import UUID

from django.db import InterfaceError, OperationalError, connections

from . import log
from .log import Entry

__all__ = ["LINGER_SECONDS", "Reader"]

T = TypeVar("T")

LINGER_SECONDS = 1.0
"""How long the connection outlives a read that found something: more usually follows."""


class Reader:
    """One thread, at most one database connection per alias."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="agentcore-reader")
        self._closing: asyncio.TimerHandle | None = None
        self._closed = False

    async def read(self, cursors: Mapping[UUID, int], limit: int) -> dict[UUID, list[Entry]]:
        """Return the entries after each cursor; the database's errors are the caller's to handle."""
        return await self._ask(lambda pages: any(pages.values()), log.read_batch, cursors, limit)

    async def find(self, function: Callable[..., T], *args: object) -> T:
        """Return what another function finds in the database, asked once more where the connection was dead."""
        try:
            return await self._ask(bool, function, *args)
        except (OperationalError, InterfaceError):
            return await self._ask(bool, function, *args)

    async def _ask(self, is_news: Callable[[T], bool], function: Callable[..., T], *args: object) -> T:
        self._keep_open()
        loop = asyncio.get_running_loop()
        linger = 0.0
        try:
            found = await loop.run_in_executor(self._thread, _closing_what_broke, function, *args)
            linger = LINGER_SECONDS if is_news(found) else 0.0
        finally:
            if not self._closed:
                self._keep_open()  # somebody else may have asked meanwhile
                self._closing = loop.call_later(linger, self._thread.submit, connections.close_all)
        return found

    def _keep_open(self) -> None:
        if self._closing:
            self._closing.cancel()

    def close(self) -> None:
        """Give back the connection and end the thread, without waiting for either."""
        self._closed = True
        self._keep_open()
        self._thread.submit(connections.close_all)
        self._thread.shutdown(wait=False)


def _closing_what_broke(function: Callable[..., T], *args: object) -> T:
    try:
        return function(*args)
    except Exception:
        connections.close_all()  # whoever has asked meanwhile would meet the same broken connection
        raise
