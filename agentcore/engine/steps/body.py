"""A tool's body, once: on the run's loop or in a thread of the application's (`atomic.py` has the third kind)."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from ...conf import get_settings
from ...declaration.tool import Tool
from ...journal.commit import Commit
from ...models import Run, ToolCall
from ...values import bounded, events
from .. import application
from ..runtime import Runtime
from ..threads import AppCall


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
