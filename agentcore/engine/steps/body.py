"""A tool's body, once: on the run's loop, in a thread of the application's, or in one transaction with its result."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from django.db import connection, transaction

from ...conf import get_settings
from ...database.again import unit
from ...database.outage import is_conflict, is_outage
from ...declaration.tool import Tool
from ...exceptions import LeaseLost
from ...failpoints import failpoint
from ...journal.commit import Commit
from ...models import Run, ToolCall
from ...values import bounded, events
from ...values.logextra import log_extra
from .. import application
from ..runtime import Runtime
from ..threads import AppCall, contained

logger = logging.getLogger("agentcore.engine")


@dataclass(frozen=True)
class Work:
    """A call that has started, and what it takes to run its body; `approved` says that a person agreed to it."""

    run: Run
    call: ToolCall
    tool: Tool
    approved: bool
    runtime: Runtime
    commit: Callable[[Commit], Awaitable[None]]
    record: Callable[[Any, Sequence[events.Event]], Commit]

    @property
    def seconds(self) -> float:
        """How long one attempt may take."""
        return self.tool.timeout if self.tool.timeout is not None else get_settings().tool_timeout

    def read(self, value: Any) -> Any:
        """Make what the body gave back JSON of a bounded size: it may be anything."""
        return bounded.result(value, get_settings().result_limit, function=self.tool.function)


class Body(AppCall, ABC):
    """A tool's body, to be run once; its kinds differ in where, and in what is committed with it."""

    recorded: Commit | None = None
    """What was committed together with what it did; None where its result is yet to be."""
    on_awaiting: ClassVar[str] = ""
    """What more to tell its developer where it gave back what nobody has awaited."""

    def __init__(self, work: Work, function: Callable[[], Any]) -> None:
        super().__init__(function, work.call.pk)
        self._threads, self._read = work.runtime.threads, work.read

    @abstractmethod
    async def run(self, limit: asyncio.Timeout) -> Any:
        """Run it within a limit and return what it gave back, as JSON; once this is over, it runs on or never begins.

        Raises what the body raises, and `CancelledError` where its time is over.
        """

    def is_lost(self, error: BaseException) -> bool:
        """Whether after an error of `run` only the run's rows tell what became of it."""
        return False


class BodyOnLoop(Body):
    """A body that is a coroutine: a thread is needed at most to read what it gives back."""

    async def run(self, limit: asyncio.Timeout) -> Any:
        """Run it, until it ends or is cancelled."""
        return await application.finished(self._threads, self(), self._read)


class BodyInThread(Body):
    """A body that may block. What is lazy acts when it is read: until then, its thread is busy with the body."""

    def __init__(self, work: Work, function: Callable[[], Any]) -> None:
        super().__init__(work, partial(application.at_once, function, work.read))

    async def run(self, limit: asyncio.Timeout) -> Any:
        """Run it, until it ends or is left to its thread; what it gives back may have to be awaited."""
        return await application.finished(self._threads, await self._threads.call(self), self._read)


class _Withdrawn(Exception):
    """Nobody waits for this transaction any more; it is rolled back."""


class AtomicBody(Body):
    """A sync body that is committed together with its result, or rolled back: it happens exactly once.

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
            logger.exception("what a tool left to on_commit raised", extra=log_extra("tool_hook_raised"))
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
