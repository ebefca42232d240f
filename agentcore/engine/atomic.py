"""A tool's body and its result in one transaction: what it does to the project's database happens exactly once."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any

from django.db import OperationalError, transaction

from ..failpoints import failpoint
from ..outage import is_conflict, is_outage
from . import sql
from .entry import Commit
from .threaded import ThreadedBody

logger = logging.getLogger("agentcore.engine")

RETRIES = 5
FIRST_PAUSE = 0.02

Record = Callable[[Any], Commit]
"""Writes a call's result into the transaction it is called in, and returns what it wrote."""


class _Withdrawn(Exception):
    """Nobody waits for this transaction any more; it is rolled back."""


class AtomicBody(ThreadedBody):
    """A sync body that is committed together with its result, or rolled back.

    The claim is proved at the end, by the write of the result: a worker that has lost
    its run by then commits nothing. Where another transaction was in the way, all of it
    runs again, as any transaction of the database would.
    """

    def __init__(self, body: Callable[[], Any], record: Record) -> None:
        super().__init__(self._in_transactions)
        self._body = body
        self._record = record
        self._recording = False
        self.recorded: Commit | None = None
        """What was committed with it; None while nothing is."""

    async def ended(self, call: Coroutine[Any, Any, Any], limit: asyncio.Timeout) -> None:
        """Await the call of this body; one that is being committed is waited for, however late it is."""
        thread = asyncio.create_task(call)
        try:
            await asyncio.shield(thread)
        except asyncio.CancelledError:
            if self.withdraw():
                thread.cancel()
                raise
            await asyncio.wait([thread])
            error = thread.exception()
            if not limit.expired():  # the run is being ended: its rows say what has happened
                raise
            if error is not None:
                raise error from None

    def withdraw(self) -> bool:
        """Keep it from being committed; returns False where it is too late for that."""
        with self._lock:
            self._withdrawn = not self._recording
            return self._withdrawn

    def says_nothing_of_the_tool(self, error: BaseException) -> bool:
        """Whether the database went away while the result was written: then nobody knows whether it was."""
        return self._recording and is_outage(error)

    def _in_transactions(self) -> None:
        for retry in range(RETRIES + 1):
            try:
                self._once()
            except _Withdrawn:
                return
            except OperationalError as error:
                if retry == RETRIES or not is_conflict(error):
                    raise
                logger.info("a tool's transaction runs again: %s", error, extra={"action": "tool_retried"})
                time.sleep(random.uniform(0, FIRST_PAUSE * 2**retry))  # noqa: S311 - jitter, not a secret
            else:
                return

    def _once(self) -> None:
        self._recording = False
        with transaction.atomic(using=sql.alias(), durable=True):
            value = self._body()
            failpoint("after_tool_return")
            self._begin_recording()
            recorded = self._record(value)
            failpoint("before_commit")
        self.recorded = recorded

    def _begin_recording(self) -> None:
        with self._lock:
            if self._withdrawn:
                raise _Withdrawn
            self._recording = True
