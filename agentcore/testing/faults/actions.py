"""Which failpoints there are, what can be done at one, and how a plan writes it."""

from __future__ import annotations

import ctypes
import os
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db.utils import DatabaseError, DataError, IntegrityError, InterfaceError, OperationalError

ALWAYS = 0

POINTS = frozenset((
    "job_entry", "after_look", "after_claim", "after_model_start", "mid_stream", "after_model_commit",
    "after_tool_start", "in_tool", "after_tool_return", "after_result_commit", "before_finish", "before_suspend",
    "before_release", "at_wait", "before_commit", "after_commit", "before_enqueue", "after_approval_commit",
    "before_hint",
))  # fmt: skip
"""Every point there is, in the order a run meets them."""


class FailpointRaised(Exception):
    """What a point raises that was told to raise and not told what; nothing in agentcore expects it."""


FAMILIES: dict[str, type[BaseException]] = {
    kind.__name__: kind
    for kind in (
        FailpointRaised, DatabaseError, DataError, IntegrityError, InterfaceError, OperationalError,
        ConnectionError, MemoryError, OSError, RuntimeError, TimeoutError, ValueError,
    )
}  # fmt: skip

_ACTION = re.compile(r"([a-z]+)(?::([^@*]+))?(?:@([1-9]\d*))?(?:(\*)([1-9]\d*)?)?")


@dataclass(frozen=True)
class Action:
    """What happens at a point: on the `nth` hit of a process (0: any), `times` in all (0: always)."""

    kind: str
    argument: str = ""
    nth: int = 0
    times: int = 1
    call: Callable[[], Any] | None = None

    def do(self, name: str) -> Any:
        """Do what is not waiting; most of it does not return."""
        if self.call is not None:
            return self.call()
        if self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        if self.kind == "exit":
            os._exit(int(self.argument or 1))
        if self.kind == "segv":
            ctypes.string_at(0)
        if self.kind == "raise":
            raise FAMILIES[self.argument or "FailpointRaised"](f"failpoint {name}")
        return None


def parse(spec: str) -> dict[str, Action]:
    """Read what AGENTCORE_FAILPOINTS says; raises `ValueError` for a point, action or exception there is not."""
    words = [word.strip() for word in spec.split(";") if word.strip()]
    pairs = [word.partition("=") for word in words]
    return {name.strip(): parse_action(name.strip(), text) for name, _, text in pairs}


def parse_action(name: str, text: str) -> Action:
    """Read what is to happen at one point; raises `ValueError` as `parse` does."""
    check(name)
    found = _ACTION.fullmatch(text.strip())
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


def check(name: str) -> None:
    """Raise `ValueError` for a point there is not."""
    if name not in POINTS:
        raise ValueError(f"there is no failpoint {name!r}; known are {', '.join(sorted(POINTS))}")
