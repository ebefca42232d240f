"""A tool's body and its result in one transaction: what it does to the project's database happens exactly once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

from django.db import connection, transaction

from ...conf import get_settings
from ...database.again import unit
from ...database.outage import is_conflict, is_outage
from ...exceptions import LeaseLost
from ...failpoints import failpoint
from ...journal.commit import Commit
from ..threads import contained
from .body import Body, Work

logger = logging.getLogger("agentcore.engine")


class _Withdrawn(Exception):
    """Nobody waits for this transaction any more; it is rolled back."""


class AtomicBody(Body):
    """A sync body that is committed together with its result, or rolled back.

    `function` is the body, with arguments of its own at each call; `record` writes its
    result into the transaction, and returns what it wrote. The claim is proved there: a
    worker that has lost its run by then commits nothing. Where another transaction was
    in the way, all of it runs again, as any transaction of the database would.
    """

    lets_out = LeaseLost
    on_awaiting = " An atomic tool awaits nothing: its transaction is sync."

    def __init__(self, work: Work, function: Callable[[], Any], record: Callable[[Any], Commit]) -> None:
        super().__init__(work, self._until_withdrawn)
        self._body, self._record = function, record
        self._written: Commit | None = None
        self._recording = self._committing = False
        self._loop = asyncio.get_running_loop()
        self._landed = asyncio.Event()

    async def run(self, limit: asyncio.Timeout) -> None:
        """Run it until it is committed; one that is being recorded when its time is over is waited for.

        Raises what keeps it from being committed, and a `CancelledError` where that is the time, or a cancel.
        """
        thread = asyncio.create_task(self._threads.call(self))
        try:
            await asyncio.shield(thread)
        except asyncio.CancelledError:
            self.withdraw()
            if self._recording:
                await self._decided(thread)
            if self.recorded is None and thread.done() and not thread.cancelled() and (error := thread.exception()):
                raise error from None
            thread.cancel()  # the thread runs on, whatever it still does
            if self.recorded is None or not limit.expired():  # if the run is being ended, its rows say what happened
                raise

    def is_lost(self, error: BaseException) -> bool:
        """Whether the database went away during the COMMIT: then only its rows tell what became of it."""
        return self._committing and is_outage(error) and not is_conflict(error)

    async def _decided(self, thread: asyncio.Task[Any]) -> None:
        landed = asyncio.create_task(self._landed.wait())
        # After a lease nothing is waited for: the run may be another worker's by then.
        await asyncio.wait([thread, landed], timeout=get_settings().lease_seconds, return_when=asyncio.FIRST_COMPLETED)
        landed.cancel()

    def _until_withdrawn(self) -> None:
        with contextlib.suppress(_Withdrawn):
            self._transaction_of_a_tool()

    @unit
    def _transaction_of_a_tool(self) -> None:
        self._recording = self._committing = False
        try:
            with transaction.atomic(durable=True):
                self._go_on()
                value = contained(lambda: self._read(self._body()))
                failpoint("after_tool_return")
                self._go_on(recording=True)
                self._write(value)
                failpoint("before_commit")
                self._committing = True
        except BaseException:
            if self.recorded is None:
                raise
            logger.exception("what a tool left to on_commit raised", extra={"action": "tool_hook_raised"})
        self._land()  # once more: inside a plain TestCase no hooks are run

    def _go_on(self, *, recording: bool = False) -> None:
        with self._lock:
            if self.withdrawn:
                raise _Withdrawn
            self._recording = recording

    def _write(self, value: Any) -> None:
        """Write the result, and have it known and announced before the tool's own hooks, which may fail or hang."""
        hooks = len(connection.run_on_commit)
        transaction.on_commit(self._land)
        self._written = self._record(value)
        connection.run_on_commit = connection.run_on_commit[hooks:] + connection.run_on_commit[:hooks]

    def _land(self) -> None:
        self.recorded = self._written
        self._loop.call_soon_threadsafe(self._landed.set)
