"""What happens at failpoints: the plan that a process reads from its environment, or that a test arms in its own.

`AGENTCORE["FAILPOINTS"]`, which is for test settings only, must be true, and the
environment in which a process starts must say what happens where:

    AGENTCORE_FAILPOINTS="after_tool_start=kill;mid_stream=raise:ConnectionError@5"
    AGENTCORE_FAILPOINT_DIR=/a/directory/of/the/test

An action fires once in all the processes that share the directory, so that the
worker that takes over lives. `@5` waits for the fifth time a process comes by,
`*3` fires three times in all and `*` every time. Inside one process, `armed` does the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ... import failpoints
from ...conf import get_settings
from .actions import ALWAYS, Action, FailpointRaised, check, parse, parse_action

SPEC_VARIABLE = "AGENTCORE_FAILPOINTS"
DIRECTORY_VARIABLE = "AGENTCORE_FAILPOINT_DIR"
HOLD_SECONDS = 120.0
LOOK_SECONDS = 0.02


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
        """Let the processes that a point holds go on, and those that reach it later."""
        (self.directory / f"{name}.release").touch()

    def released(self, name: str) -> bool:
        """Return whether the processes that a point holds may go on."""
        return (self.directory / f"{name}.release").exists()

    def reach(self, name: str) -> None:
        """Say that this process is held at a point."""
        (self.directory / f"{name}.reached").touch()

    def take(self, name: str, times: int) -> bool:
        """Count one firing of a point, of all processes together; False where it has fired as often as it may."""
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

    def meet(self, name: str) -> None:
        """Do what is due at a point."""
        action = self._due(name)
        if action is not None:
            for seconds in self._waits(name, action):
                time.sleep(seconds)
            action.do(name)

    async def ameet(self, name: str) -> None:
        """Do what is due at a point, without holding up the event loop while it waits."""
        action = self._due(name)
        if action is not None:
            for seconds in self._waits(name, action):
                await asyncio.sleep(seconds)
            answer = action.do(name)
            if inspect.isawaitable(answer):
                await answer

    def _due(self, name: str) -> Action | None:
        """Count one hit and return what it sets off, if anything."""
        check(name)
        action = self._actions.get(name)
        if action is None:
            return None
        with self._lock:
            self._hits[name] += 1
            if action.nth and self._hits[name] != action.nth:
                return None
        return action if self._marks.take(name, action.times) else None

    def _waits(self, name: str, action: Action) -> Iterator[float]:
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


def failpoint_environment(directory: Path | str, **actions: str) -> dict[str, str]:
    """Return the environment in which processes meet these failpoints; each fires once in all that share `directory`.

    Raises `ValueError` for a point or an action that does not exist.
    """
    spec = ";".join(f"{name}={action}" for name, action in actions.items())
    parse(spec)
    return {SPEC_VARIABLE: spec, DIRECTORY_VARIABLE: str(directory)}


def install_from_environment() -> None:
    """Have this process meet what its environment says, if anything; raises `ValueError` for what means nothing."""
    spec = os.environ.get(SPEC_VARIABLE, "")
    if not spec:
        return
    directory = os.environ.get(DIRECTORY_VARIABLE)
    if not directory:
        raise ValueError(f"{SPEC_VARIABLE} needs a directory in {DIRECTORY_VARIABLE}")
    failpoints.install(Plan(parse(spec), Marks(Path(directory))))


@contextlib.contextmanager
def armed(**actions: str | Callable[[], Any]) -> Iterator[Marks]:
    """Arm points in this process, as the environment would, or with a function to call at every hit.

    At an asynchronous point the function may be a coroutine function. Nothing else
    is armed meanwhile. Yields the marks, to release what is held and to ask what fired.
    """
    if not get_settings().failpoints:
        raise RuntimeError("AGENTCORE['FAILPOINTS'] is not true, so nothing can be armed")
    plan = {}
    for name, given in actions.items():
        plan[name] = Action("call", times=ALWAYS, call=given) if callable(given) else parse_action(name, given)
        check(name)
    with tempfile.TemporaryDirectory(prefix="failpoints-") as directory:
        marks = Marks(Path(directory))
        before = failpoints.install(Plan(plan, marks))
        try:
            yield marks
        finally:
            failpoints.install(before)
            for name in actions:
                marks.release(name)
