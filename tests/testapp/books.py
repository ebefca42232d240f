"""Agents whose tools write into the project's own database, and one that never has enough."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import Group

from agentcore import Agent, Checkable, Limits, ToolContext, tool
from agentcore.providers import CallRequested, ModelEvent, ModelRequest, StepFinished
from tests.testapp import rows, world
from tests.testapp.scripts import USAGE, AsksOnce

INSTRUCTIONS = "Do what the test asks."
MOST_STEPS = 6


def _book(ctx: ToolContext) -> str:
    world.append(ctx.run_id, ctx.call_id, ctx.attempt)
    Group.objects.create(name=f"{ctx.idempotency_key} {ctx.attempt}")
    return "booked"


def _booked(arguments: Mapping[str, Any], ctx: ToolContext) -> str | None:
    """The row and the tool's effect are one thing, so the row tells."""
    return "booked" if Group.objects.filter(name__startswith=ctx.idempotency_key).exists() else None


@tool
def book(ctx: ToolContext, text: str) -> str:
    """Write a row; nothing is asked afterwards."""
    return _book(ctx)


@tool(effect=Checkable(_booked))
def book_checked(ctx: ToolContext, text: str) -> str:
    """Write a row that can be found again by the call's key."""
    return _book(ctx)


@tool(effect="atomic")
def book_atomic(ctx: ToolContext, text: str) -> str:
    """Write a row that is there if the result is."""
    rows.write(ctx)
    world.wait_while_held()
    return "booked"


@tool(effect="idempotent")
def look_again(ctx: ToolContext, text: str) -> str:
    """Find nothing new."""
    world.append(ctx.run_id, ctx.call_id, ctx.attempt)
    return "nothing new"


@dataclass(frozen=True)
class NeverEnough:
    """Asks for the same call in every step."""

    name: str = "never-enough-1"
    provider: str = "tests"

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        yield CallRequested("again", "look_again", {"text": "same"})
        yield USAGE
        yield StepFinished("tool_calls")


booker = Agent(name="booker", version="1", model=AsksOnce("book"), instructions=INSTRUCTIONS, tools=[book])
checked_booker = Agent(
    name="checked_booker", version="1", model=AsksOnce("book_checked"), instructions=INSTRUCTIONS, tools=[book_checked]
)
atomic_booker = Agent(
    name="atomic_booker", version="1", model=AsksOnce("book_atomic"), instructions=INSTRUCTIONS, tools=[book_atomic]
)
looper = Agent(
    name="looper",
    version="1",
    model=NeverEnough(),
    instructions=INSTRUCTIONS,
    tools=[look_again],
    limits=Limits(max_steps=MOST_STEPS),
)
