"""Reads streams for an event loop, on a thread of its own that keeps no connection while idle."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from django.db import connections

from . import log
from .log import Entry

__all__ = ["LINGER_SECONDS", "Reader"]

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
        if self._closing:
            self._closing.cancel()
        loop = asyncio.get_running_loop()
        linger = 0.0
        try:
            pages = await loop.run_in_executor(self._thread, log.read_batch, cursors, limit)
            linger = LINGER_SECONDS if any(pages.values()) else 0.0
        finally:
            if not self._closed:
                self._closing = loop.call_later(linger, self._thread.submit, connections.close_all)
        return pages

    def close(self) -> None:
        """Give back the connection and end the thread, without waiting for either."""
        self._closed = True
        if self._closing:
            self._closing.cancel()
        self._thread.submit(connections.close_all)
        self._thread.shutdown(wait=False)
