"""Runs that are driven together on one event loop, as the concurrent worker drives them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from agentcore import tool
from agentcore.engine.runtime import Runtime
from agentcore.models import Run
from agentcore.services import execution
from agentcore.testing import ScriptedModel, Turn
from tests.integration.room import race

RUNS = 12


@tool(effect="pure")
async def add(a: int, b: int) -> int:
    """Add."""
    return a + b


def turns() -> list[Turn]:
    """One call, and three words after it."""
    return [Turn(calls=[("add", {"a": 1, "b": 2})]), Turn(deltas=["It ", "is ", "three."])]


class EachItsOwn:
    """Plays the same script for every run, from its beginning."""

    name, provider = "each", "tests"

    def __init__(self, make: Callable[[], list[Turn]] = turns) -> None:
        self._make = make
        self._scripts: dict[Any, ScriptedModel] = {}

    def stream(self, request: Any) -> Any:
        return self._scripts.setdefault(request.run_id, ScriptedModel(self._make())).stream(request)


def drive(runs: list[Run], during: Callable[[], None] = lambda: None) -> list[Any]:
    """Drive runs on one event loop, as the concurrent worker does, on a thread of its own."""

    async def together() -> list[Any]:
        runtime = Runtime("worker", alone=False, own_threads=True)
        try:
            driving = [asyncio.create_task(execution.adrive(run.pk, runtime)) for run in runs]
            await asyncio.to_thread(during)
            return await asyncio.gather(*driving, return_exceptions=True)
        finally:
            await runtime.aclose()

    (outcomes,) = race(lambda: asyncio.run(together()))
    if isinstance(outcomes, BaseException):
        raise outcomes
    return list(outcomes)
