"""The threads of the application's code: what it raises there must not end the worker, and none can be stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.db import close_old_connections

T = TypeVar("T")

APP_THREADS = 32
"""They are made when they are needed; one that a hanging tool keeps is one less for the next."""


class BrokeOff(Exception):
    """A function raised what no loop or future can carry: it would end the worker, or be lost. The cause says what."""


def contained(function: Callable[[], Any]) -> Any:
    """Call a function of the application's; raises `BrokeOff` for what is no error of its own to a loop or a future.

    A `KeyboardInterrupt` or `SystemExit` in a task ends the loop, a `CancelledError` reads
    as a cancel, a `StopIteration` is lost, and the engine's own signals mean something else.
    """
    try:
        return function()
    except StopIteration as error:
        raise BrokeOff from error
    except Exception:
        raise
    except BaseException as error:
        raise BrokeOff from error


class ThreadedBody:
    """A sync body on its way through a thread of the application's, which cannot be stopped once it has it."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._lock = threading.Lock()
        self._begun = self._withdrawn = self._ended = False

    @property
    def begun(self) -> bool:
        """Whether a thread has taken it."""
        return self._begun

    @property
    def runs(self) -> bool:
        """Whether it has begun and not ended: what it does may still be to come."""
        return self._begun and not self._ended

    def __call__(self) -> Any:
        with self._lock:
            if self._withdrawn:
                return None
            self._begun = True
        try:
            return self._function()
        finally:
            self._ended = True

    def withdraw(self) -> None:
        """Keep it from beginning, for good."""
        with self._lock:
            self._withdrawn = True


class AppThreads:
    """The threads of the application's blocking code."""

    def __init__(self) -> None:
        self._executor: ThreadPoolExecutor | None = None
        self._left: set[_Call] = set()

    async def call(self, function: Callable[[], T]) -> T:
        """Call a function in a thread, with this task's context; whoever stops waiting leaves the thread behind."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(APP_THREADS, thread_name_prefix="agentcore-app")
        call = _Call(function)
        try:
            return await sync_to_async(call, thread_sensitive=False, executor=self._executor)()  # type: ignore[no-any-return]
        finally:
            if call.runs.is_set():
                self._left.add(call)

    def stuck(self) -> int:
        """Return how many threads run on though nobody waits for them any more."""
        self._left = {call for call in self._left if call.runs.is_set()}
        return len(self._left)

    def close(self) -> None:
        """Take no more calls."""
        if self._executor is not None:
            self._executor.shutdown(wait=False)


class _Call:
    """One call of the application's, wrapped as Django wraps a request: no stale connection is used or kept."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.runs = threading.Event()
        self._function = function

    def __call__(self) -> Any:
        self.runs.set()
        close_old_connections()
        try:
            return self._function()
        finally:
            close_old_connections()
            self.runs.clear()
