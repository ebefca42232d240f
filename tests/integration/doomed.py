"""Tools of every effect and a model, all of which can take their worker with them."""

from __future__ import annotations

import asyncio
from typing import Any

from asgiref.sync import sync_to_async

from agentcore import SYSTEM, Checkable, ToolContext, Usage, tool
from agentcore.providers import StepFinished, TextDelta, UsageReported
from agentcore.services import events
from agentcore.testing import Turn
from tests.integration.room import (
    Died,
    die_driving,
    make,
)


class World:
    """What really happened: the key of every execution, and how many of the next ones kill the worker."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.deaths = 0
        self.deaths_of_each = 0
        self.happened: Any = None

    def act(self, ctx: ToolContext) -> str:
        """Have an effect, and perhaps die of it."""
        self.keys.append(ctx.idempotency_key)
        if self.keys.count(ctx.idempotency_key) <= self.deaths_of_each:
            raise Died
        if self.deaths:
            self.deaths -= 1
            raise Died
        return f"done {len(self.keys)}"


WORLD = World()


@tool
def unsafe(ctx: ToolContext) -> str:
    """Act; nobody can tell afterwards."""
    return WORLD.act(ctx)


@tool(effect="idempotent")
def idempotent(ctx: ToolContext) -> str:
    """Act; again is as good as once."""
    return WORLD.act(ctx)


@tool(effect="pure")
def pure(ctx: ToolContext) -> str:
    """Act without an effect."""
    return WORLD.act(ctx)


def _ask(arguments: Any, ctx: ToolContext) -> Any:
    if isinstance(WORLD.happened, BaseException):
        raise WORLD.happened
    return WORLD.happened


async def _ask_async(arguments: Any, ctx: ToolContext) -> Any:
    return _ask(arguments, ctx)


@tool(effect=Checkable(_ask))
def checked(ctx: ToolContext) -> str:
    """Act; the world can be asked."""
    return WORLD.act(ctx)


@tool(effect=Checkable(_ask_async))
def checked_async(ctx: ToolContext) -> str:
    """Act; the world can be asked, asynchronously."""
    return WORLD.act(ctx)


@tool(effect=Checkable(_ask))
async def async_checked(ctx: ToolContext) -> str:
    """Act asynchronously; the world can be asked."""
    return WORLD.act(ctx)


@tool(needs_approval=True)
def gated(ctx: ToolContext) -> str:
    """Act once somebody agrees."""
    return WORLD.act(ctx)


TOOLS = [unsafe, idempotent, pure, checked, checked_async, async_checked, gated]


def interrupted(name: str, *more: str):
    """A run whose worker died inside the body of a tool."""
    room = make([Turn(calls=[(item, {}) for item in (name, *more)]), Turn(text="Done.")], TOOLS)
    run = room.send()
    WORLD.deaths = 1
    die_driving(run)
    return room, run


def make_waiting_for_gated():
    room = make([Turn(calls=[("gated", {})]), Turn(text="Done.")], TOOLS)
    return room, room.play()


def spoken(run_id: Any) -> list[str]:
    """The deltas that are in a run's log."""
    found = events.read(run_id, user=SYSTEM).events
    return [event["text"] for event in found if event["type"] == "text.delta"]


class DiesMidText:
    """Dies after half a sentence, as often as it is told to."""

    name, provider = "dies", "tests"

    def __init__(self, deaths: int = 1) -> None:
        self.deaths = deaths
        self.calls = 0

    async def stream(self, request):
        self.calls += 1
        yield TextDelta(f"Attempt {self.calls} ")
        while f"Attempt {self.calls} " not in await sync_to_async(spoken)(request.run_id):  # noqa: ASYNC110 - what it waits for is a commit
            await asyncio.sleep(0.01)
        if self.deaths:
            self.deaths -= 1
            Died()
        yield TextDelta("ends.")
        yield UsageReported(Usage(1, 1, 2))
        yield StepFinished("stop")
