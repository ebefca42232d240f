"""Tools that misbehave in every way, each with the effect class it declares."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from agentcore import ToolContext, tool
from agentcore.exceptions import ToolFailed

RELEASE = threading.Event()


class Silent:
    """Cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no")


def _cycle() -> Any:
    value: dict[str, Any] = {"a": 1}
    value["self"] = [value, value]
    return value


def _laughs() -> Any:
    value: Any = "lol"
    for _ in range(60):
        value = [value, value]
    return value


RESULTS: dict[str, Callable[[], Any]] = {
    "a hundred megabytes": lambda: "x" * 100_000_000,
    "binary": lambda: b"\x00\x01\xff" * 100,
    "ten megabytes of bytes": lambda: bytes(10_000_000),
    "cyclic": _cycle,
    "a billion laughs": _laughs,
    "not json": lambda: {"at": Decimal("1.5"), "set": {1}, "object": object()},
    "silent": Silent,
    "nul and surrogates": lambda: "a\x00b\ud800c",
    "nan": lambda: float("nan"),
    "a huge list": lambda: list(range(500_000)),
    "none": lambda: None,
}


@tool(effect="pure")
def give(what: str) -> Any:
    """Give something back."""
    return RESULTS[what]()


@tool(effect="pure")
async def give_async(what: str) -> Any:
    """Give something back, asynchronously."""
    return RESULTS[what]()


FAULTS: dict[str, Callable[[], BaseException]] = {
    "value error": lambda: ValueError("secret detail"),
    "base exception": lambda: KeyboardInterrupt("stop"),
    "system exit": lambda: SystemExit(3),
    "cancelled": lambda: asyncio.CancelledError(),
    "memory": lambda: MemoryError(),
    "recursion": lambda: RecursionError(),
    "silent": lambda: ValueError(Silent()),
    "stop": lambda: StopIteration(),
}


@tool(effect="pure")
def fail_pure(how: str) -> str:
    """Fail without an effect."""
    raise FAULTS[how]()


@tool
def fail_unsafe(how: str) -> str:
    """Fail, perhaps after the effect."""
    raise FAULTS[how]()


@tool
def decline(why: str) -> str:
    """Say that nothing was done."""
    raise ToolFailed(why)


@tool(effect="pure", timeout=0.3)
async def hang_async() -> str:
    """Never come back."""
    await asyncio.Event().wait()
    return "never"


@tool(effect="pure", timeout=0.3)
def hang(ctx: ToolContext) -> str:
    """Hold its thread until the test lets go."""
    RELEASE.wait(30)
    return "too late"


@tool(effect="pure", timeout=5)
def polite(ctx: ToolContext) -> str:
    """Stop when it is told to."""
    while not ctx.cancelled:
        time.sleep(0.01)
    return "stopped"


@tool(effect="pure")
def answer() -> str:
    """Answer at once."""
    return "42"


@tool(effect="pure")
def leave_a_thread() -> str:
    """Leave a thread behind that outlives the call."""
    threading.Thread(target=RELEASE.wait, args=[30], name="left-behind", daemon=True).start()
    return "left one"
