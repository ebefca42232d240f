"""A tool's body in a thread: what it raises must not end the worker, and it cannot be stopped once it has begun."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


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
