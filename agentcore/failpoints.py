"""Named points at which a test makes a process die, wait or fail; off everywhere else.

`AGENTCORE["FAILPOINTS"]`, which is for test settings only, must be true, and the
environment of a process must say what happens where:

    AGENTCORE_FAILPOINTS="after_tool_start=kill;mid_stream=raise:ConnectionError@5"
    AGENTCORE_FAILPOINT_DIR=/a/directory/of/the/test

An action fires once in all the processes that share the directory, so that the
worker that takes over lives. `@5` waits for the fifth time a process comes by,
`*3` fires three times in all and `*` every time. Inside one process, `armed` does the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import inspect
import os
import re
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.core.signals import setting_changed
from django.db.utils import DatabaseError, DataError, IntegrityError, InterfaceError, OperationalError
from django.dispatch import receiver

from .conf import get_settings

__all__ = ["POINTS", "FailpointRaised", "Marks", "afailpoint", "armed", "failpoint", "parse"]

SPEC_VARIABLE = "AGENTCORE_FAILPOINTS"
DIRECTORY_VARIABLE = "AGENTCORE_FAILPOINT_DIR"
HOLD_SECONDS = 120.0
LOOK_SECONDS = 0.02
ALWAYS = 0

POINTS = frozenset(
    {
        "job_entry",
        "after_look",
        "after_claim",
        "after_model_start",
        "mid_stream",
        "after_model_commit",
        "after_tool_start",
        "in_tool",
        "after_tool_return",
        "after_result_commit",
        "before_finish",
        "before_suspend",
        "before_release",
        "at_wait",
        "before_commit",
        "after_commit",
        "before_enqueue",
        "after_approval_commit",
        "before_hint",
    }
)
"""Every point there is, in the order a run meets them."""


class FailpointRaised(Exception):
    """What a point raises that was told to raise and not told what; nothing in agentcore expects it."""


FAMILIES: dict[str, type[BaseException]] = {
    kind.__name__: kind
    for kind in (
        FailpointRaised,
        DatabaseError,
        DataError,
        IntegrityError,
        InterfaceError,
        OperationalError,
        ConnectionError,
        MemoryError,
        OSError,
        RuntimeError,
        TimeoutError,
        ValueError,
    )
}

_ACTION = re.compile(r"([a-z]+)(?::([^@*]+))?(?:@([1-9]\d*))?(?:(\*)([1-9]\d*)?)?")


@dataclass(frozen=True)
class Action:
    """What happens at a point: on the `nth` hit of a process (0: any), `times` in all (0: always)."""

    kind: str
    argument: str = ""
    nth: int = 0
    times: int = 1
    call: Callable[[], Any] | None = None


@dataclass(frozen=True)
class Marks:
    """The files by which the processes of a test, and the test itself, tell each other about points."""

    directory: Path

    def fired(self, name: str) -> int:
        """Return how often a point has fired so far, in all processes."""
        return len(list(self.directory.glob(f"{name}.fired.*")))

    def reached(self, name: str) -> bool:
        """Return whether a process is held at a point, or was."""
        return (self.directory / f"{name}.reached").exists()

    def release(self, name: str) -> None:
        """Let whatever is, or will be, held at a point go on."""
        (self.directory / f"{name}.release").touch()

    def released(self, name: str) -> bool:
        """Return whether whatever is held at a point may go on."""
        return (self.directory / f"{name}.release").exists()

    def reach(self, name: str) -> None:
        """Say that this process is held at a point."""
        (self.directory / f"{name}.reached").touch()

    def take(self, name: str, times: int) -> bool:
        """Take one of the times a point may fire; False where all are taken, by whatever process."""
        number = 0
        while times == ALWAYS or number < times:
            number += 1
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self.directory / f"{name}.fired.{number}", os.O_CREAT | os.O_EXCL, 0o600))
                return True
        return False


class Plan:
    """What is armed in this process, and how often it has come by each point."""

    def __init__(self, actions: Mapping[str, Action], marks: Marks) -> None:
        self._actions = actions
        self._marks = marks
        self._hits: Counter[str] = Counter()
        self._lock = threading.Lock()

    def due(self, name: str) -> Action | None:
        """Count one hit and return what it sets off, if anything."""
        _check(name)
        action = self._actions.get(name)
        if action is None:
            return None
        with self._lock:
            self._hits[name] += 1
            if action.nth and self._hits[name] != action.nth:
                return None
        return action if self._marks.take(name, action.times) else None

    def seconds(self, name: str, action: Action) -> Iterator[float]:
        """Yield the waits an action asks for, one after the other."""
        if action.kind == "sleep":
            yield float(action.argument)
        if action.kind == "hold":
            self._marks.reach(name)
            deadline = time.monotonic() + HOLD_SECONDS
            while not self._marks.released(name):
                if time.monotonic() > deadline:
                    raise FailpointRaised(f"nobody released {name} within {HOLD_SECONDS:g} seconds")
                yield LOOK_SECONDS


class _Unread:
    """Stands for the environment until the first point is met."""


_plan: Plan | _Unread | None = _Unread()


def failpoint(name: str) -> None:
    """Do what a test wants done at this point; nothing at all outside of one."""
    if _plan is not None:
        _meet(name)


async def afailpoint(name: str) -> None:
    """Do what `failpoint` does, without holding up the event loop while it waits."""
    if _plan is None:
        return
    plan = _current()
    action = plan.due(name) if plan else None
    if plan is None or action is None:
        return
    for seconds in plan.seconds(name, action):
        await asyncio.sleep(seconds)
    answer = _act(name, action)
    if inspect.isawaitable(answer):
        await answer


def _meet(name: str) -> None:
    plan = _current()
    action = plan.due(name) if plan else None
    if plan is None or action is None:
        return
    for seconds in plan.seconds(name, action):
        time.sleep(seconds)
    _act(name, action)


def _act(name: str, action: Action) -> Any:
    """Do what is not waiting; most of it does not return."""
    if action.call is not None:
        return action.call()
    if action.kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if action.kind == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if action.kind == "exit":
        os._exit(int(action.argument or 1))
    if action.kind == "segv":
        ctypes.string_at(0)
    if action.kind == "raise":
        raise FAMILIES[action.argument or "FailpointRaised"](f"failpoint {name}")
    return None


def parse(spec: str) -> dict[str, Action]:
    """Read what AGENTCORE_FAILPOINTS says; raises `ValueError` for a point, action or exception there is not."""
    words = [word.strip() for word in spec.split(";") if word.strip()]
    pairs = [word.partition("=") for word in words]
    return {name.strip(): _action(name.strip(), text.strip()) for name, _, text in pairs}


def _action(name: str, text: str) -> Action:
    _check(name)
    found = _ACTION.fullmatch(text)
    if found is None:
        raise ValueError(f"{name}={text}: write action[:argument][@n][*times]")
    kind, argument, nth, star, times = found.groups(default="")
    numbers = {"sleep": float, "exit": int}
    if kind not in {"kill", "stop", "exit", "segv", "raise", "sleep", "hold"}:
        raise ValueError(f"{name}={text}: there is no action {kind!r}")
    if kind == "raise" and argument and argument not in FAMILIES:
        raise ValueError(f"{name}={text}: only {', '.join(sorted(FAMILIES))} can be raised")
    if (argument and kind not in {"raise", *numbers}) or (kind == "sleep" and not argument):
        raise ValueError(f"{name}={text}: exit, raise and sleep take an argument, and sleep needs one")
    if argument and kind in numbers:
        numbers[kind](argument)
    most = (int(times) if times else ALWAYS) if star else 1
    return Action(kind, argument, int(nth or 0), most)


def _check(name: str) -> None:
    if name not in POINTS:
        raise ValueError(f"there is no failpoint {name!r}; known are {', '.join(sorted(POINTS))}")


def _current() -> Plan | None:
    global _plan
    if isinstance(_plan, _Unread):
        _plan = _from_environment()
    return _plan


def _from_environment() -> Plan | None:
    spec = os.environ.get(SPEC_VARIABLE, "")
    if not spec or not get_settings().failpoints:
        return None
    directory = os.environ.get(DIRECTORY_VARIABLE)
    if not directory:
        raise ValueError(f"{SPEC_VARIABLE} needs a directory in {DIRECTORY_VARIABLE}")
    return Plan(parse(spec), Marks(Path(directory)))


@contextlib.contextmanager
def armed(**actions: str | Callable[[], Any]) -> Iterator[Marks]:
    """Arm points in this process, as the environment would, or with a function to call at every hit.

    At an asynchronous point the function may be a coroutine function. Nothing else
    is armed meanwhile. Yields the marks, to release what is held and to ask what fired.
    """
    global _plan
    if not get_settings().failpoints:
        raise RuntimeError("AGENTCORE['FAILPOINTS'] is not true, so nothing can be armed")
    plan = {}
    for name, given in actions.items():
        plan[name] = Action("call", times=ALWAYS, call=given) if callable(given) else _action(name, given)
        _check(name)
    before = _plan
    with tempfile.TemporaryDirectory(prefix="failpoints-") as directory:
        marks = Marks(Path(directory))
        _plan = Plan(plan, marks)
        try:
            yield marks
        finally:
            _plan = before
            for name in actions:
                marks.release(name)


@receiver(setting_changed, dispatch_uid="agentcore.failpoints")
def _forget(*, setting: str, **kwargs: Any) -> None:
    global _plan
    if setting == "AGENTCORE" and not isinstance(_plan, Plan):
        _plan = _Unread()
