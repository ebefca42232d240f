"""The threads of the application's code: what it raises there must not end the worker, and none can be stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, TypeVar
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import close_old_connections

T = TypeVar("T")

APP_THREADS = 32
"""They are made when they are needed; one that a hanging tool keeps is one less for the next."""


class BrokeOff(Exception):
    """A function raised what no loop or future can carry: it would end the worker, or be lost. The cause says what."""


def contained(function: Callable[[], T], *, but: type[BaseException] = Exception) -> T:
    """Call a function of the application's; raises `BrokeOff` for what is no error of its own to a loop or a future.

    A `KeyboardInterrupt` or `SystemExit` in a task ends the loop, a `CancelledError` reads
    as a cancel, a `StopIteration` is lost, and the engine's own signals mean something else,
    save `but`, which is raised as it is.
    """
    try:
        return function()
    except StopIteration as error:
        raise BrokeOff from error
    except (Exception, but):
        raise
    except BaseException as error:
        raise BrokeOff from error


class AppCall:
    """A function on its way through a thread, `contained`; `tool_call` is the id of the call whose body it is."""

    lets_out: ClassVar[type[BaseException]] = Exception
    """A signal of the engine's own that it may raise, where the engine has a part in it."""

    def __init__(self, function: Callable[[], Any], tool_call: UUID | None = None) -> None:
        self.tool_call = tool_call
        self.begun = self.withdrawn = False
        self.runs = False
        """Whether it has begun and not ended: what it does may still be to come."""
        self.keeps_thread = False
        """Whether it keeps a thread of the pool: before it begins and after its end, with stale connections."""
        self._function = function
        self._lock = threading.Lock()

    def __call__(self) -> Any:
        with self._lock:
            if self.withdrawn:
                return None
            self.begun = self.runs = True
        try:
            return contained(self._function, but=self.lets_out)
        finally:
            self.runs = False

    def in_pool(self) -> Any:
        """Call it as Django handles a request: no stale connection is used or kept."""
        self.keeps_thread = True
        close_old_connections()
        try:
            return self()
        finally:
            close_old_connections()
            self.keeps_thread = False

    def withdraw(self) -> None:
        """Keep it from beginning, for good."""
        with self._lock:
            self.withdrawn = True


class AppThreads:
    """Where the application's blocking code runs, and which of it runs on though nobody waits for it any more.

    `inline` says that it runs on the caller's thread and connection, and keeps no thread of a pool.
    """

    def __init__(self, *, inline: bool) -> None:
        self._inline = inline
        self._executor = ThreadPoolExecutor(APP_THREADS, thread_name_prefix="agentcore-app")
        self._left: set[AppCall] = set()

    async def run(self, function: Callable[[], T]) -> T:
        """Call a function that may block and use the ORM; raises what it raises, as `contained` does."""
        value: T = await self.call(AppCall(function))
        return value

    async def call(self, call: AppCall) -> Any:
        """Have a call made, with this task's context; when nobody waits for it any more, it runs on or never begins."""
        try:
            if self._inline:
                return await sync_to_async(call, thread_sensitive=True)()
            return await sync_to_async(call.in_pool, thread_sensitive=False, executor=self._executor)()
        finally:
            call.withdraw()
            if call.runs or call.keeps_thread:  # a new set: other threads may be reading the old one
                self._left = {call, *(left for left in self._left if left.runs or left.keeps_thread)}

    def still_runs(self, tool_call: UUID) -> bool:
        """Whether a tool call's body runs on though nobody waits for it."""
        return any(call.runs for call in self._left if call.tool_call == tool_call)

    def stuck(self) -> int:
        """Return how many threads run on though nobody waits for them any more."""
        return sum(call.keeps_thread for call in self._left)

    def close(self) -> None:
        """Take no more calls."""
        self._executor.shutdown(wait=False)
