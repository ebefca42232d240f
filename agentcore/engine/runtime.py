"""How one process drives runs: where its blocking work runs, its journal, its heartbeat, and when it stops."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Generic, ParamSpec, TypeVar
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import InterfaceError, OperationalError, connection, connections

from ..declaration.agent import AgentDefinition
from ..journal.lease import Heartbeat
from ..journal.writer import Journal
from .threads import AppThreads

P = ParamSpec("P")
T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")

MOST_AT_ONCE = 100
"""So many keys are in one question to the database."""


def this_worker() -> str:
    """Return a name for this process that an operator can find: host and pid."""
    return f"{socket.gethostname()}:{os.getpid()}"


class Gathering(Generic[K, V]):
    """One kind of question to the database: what is asked for while one answer is under way makes up the next.

    `answer` takes the keys and returns what it found. It is for one event loop.
    """

    def __init__(self, run: Callable[..., Awaitable[Any]], answer: Callable[[Sequence[K]], Mapping[K, V]]) -> None:
        self._run = run
        self._answer = answer
        self._waiting: dict[K, asyncio.Future[V | None]] = {}
        self._asking: asyncio.Task[None] | None = None

    async def get(self, key: K) -> V | None:
        """Return what there is for a key, None where there is nothing."""
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = asyncio.get_running_loop().create_future()
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._ask(), name="agentcore-gathering")
        return await asyncio.shield(waiting)

    async def _ask(self) -> None:
        while self._waiting:
            keys = list(self._waiting)[:MOST_AT_ONCE]
            asked = [self._waiting.pop(key) for key in keys]
            try:
                found = await self._run(self._answer, keys)
            except BaseException as error:  # noqa: BLE001 - whoever waits for it raises it
                for waiting in asked:
                    waiting.set_exception(error)
                    waiting.exception()  # somebody may have stopped waiting
                continue
            for key, waiting in zip(keys, asked, strict=True):
                waiting.set_result(found.get(key))


class Runtime:
    """What all the runs that one event loop drives have in common.

    `alone`: the process drives one run at a time, so it may drive a suspect, and a lease that it loses counts
    towards `POISON_AFTER`. `own_threads`: the engine reads and writes on threads and connections of its own, not on
    the caller's. `inline`: the application's code uses the caller's connection too, so that a plain Django
    `TestCase` sees everything. `definition` replaces the registered agent. `gives_up_on`: exceptions, such as
    that of a job's deadline, at which the process lets go of the run, which has not failed. `ends_by_drain`: the
    process ends its work only by a drain; a task that is cancelled before that means that the process breaks down.
    """

    def __init__(
        self,
        worker: str,
        *,
        alone: bool = True,
        own_threads: bool = False,
        inline: bool = False,
        definition: AgentDefinition | None = None,
        gives_up_on: tuple[type[BaseException], ...] = (),
        ends_by_drain: bool = False,
    ) -> None:
        self.worker = worker
        self.alone = alone
        self.definition = definition
        self.gives_up_on = gives_up_on
        self.ends_by_drain = ends_by_drain
        self.draining = False
        self.journal = Journal(self.db)
        self.heartbeat = Heartbeat(self.journal, self.read)
        self.threads = AppThreads(inline=inline)
        self.driving: set[UUID] = set()
        self._gatherings: dict[Any, Gathering[Any, Any]] = {}
        self._drained = asyncio.Event()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="agentcore-writer") if own_threads else None
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="agentcore-reader") if own_threads else None
        self._errands = ThreadPoolExecutor(1, thread_name_prefix="agentcore-errands") if own_threads else None

    @property
    def is_breaking_down(self) -> bool:
        """Whether a cancel that comes now means a breakdown: the run becomes suspect, and is not handed over."""
        return self.ends_by_drain and not self.draining

    async def db(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the engine's own writes: one thread, one connection."""
        return await _on(self._writer, function, *args, **kwargs)

    async def read(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the engine's own reads, which need not wait for a write under way."""
        return await _on(self._reader, function, *args, **kwargs)

    async def together(self, answer: Callable[[Sequence[K]], Mapping[K, V]], key: K) -> V | None:
        """Return what `answer` reads for a key; it is asked once for all that ask at the same time."""
        found: V | None = await self._gathered(self.read, answer, key)
        return found

    async def owed(self, do: Callable[[Sequence[K]], Mapping[K, V]], key: K) -> None:
        """Do something that may wait for a row or for Redis, beside all else; once for all keys at the same time."""
        await self._gathered(self._errand, do, key)

    async def _errand(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await _on(self._errands, function, *args, **kwargs)

    async def _gathered(self, run: Callable[..., Awaitable[Any]], answer: Callable[..., Any], key: Any) -> Any:
        known = self._gatherings.get(answer)
        if known is None:
            known = self._gatherings[answer] = Gathering(run, answer)
        return await known.get(key)

    def drain(self) -> None:
        """Have every run given back at its next step boundary. Call it on the event loop's thread."""
        self.draining = True
        self._drained.set()

    async def pause(self, seconds: float) -> None:
        """Wait, but not beyond the moment this process is told to drain."""
        try:
            async with asyncio.timeout(seconds):
                await self._drained.wait()
        except TimeoutError:
            return

    async def aclose(self) -> None:
        """Finish what is being written, and close the connections of its threads."""
        await self.journal.settled()
        await self.heartbeat.stop()
        for executor in (self._writer, self._reader, self._errands):
            if executor is not None:
                await asyncio.get_running_loop().run_in_executor(executor, connections.close_all)
                executor.shutdown(wait=False)
        self.threads.close()


async def _on(executor: ThreadPoolExecutor | None, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    call: Callable[[], T] = partial(_leaving_no_dead_connection, function, *args, **kwargs)
    if executor is None:
        return await sync_to_async(call, thread_sensitive=True)()
    return await asyncio.get_running_loop().run_in_executor(executor, call)


def _leaving_no_dead_connection(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Call it; where the database was away, the next call begins with a new connection."""
    try:
        return function(*args, **kwargs)
    except StopIteration as error:  # a future refuses it, and whoever awaits it would wait for ever
        raise RuntimeError("a function raised StopIteration") from error
    except (OperationalError, InterfaceError):
        connection.close_if_unusable_or_obsolete()
        raise
