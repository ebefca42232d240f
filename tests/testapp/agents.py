"""The agents under test; each tool notes in the world log that it really ran."""

from __future__ import annotations

import gc
import os

from agentcore import Agent, ToolContext, tool
from tests.testapp import world
from tests.testapp.books import atomic_booker, booker, checked_booker, looper
from tests.testapp.guarded import guarded
from tests.testapp.hazards import blocker, faller, interrupter, killer, leaker, spawner, waiter, walker
from tests.testapp.mixed import mixed, mixed_parallel
from tests.testapp.scripts import AsksOnce, CountsOn, Echo, Recalls, Slow
from tests.testapp.served import served

__all__ = [
    "atomic_booker",
    "blocker",
    "booker",
    "checked_booker",
    "faller",
    "guarded",
    "interrupter",
    "killer",
    "leaker",
    "looper",
    "mixed",
    "mixed_parallel",
    "served",
    "spawner",
    "waiter",
    "walker",
]

INSTRUCTIONS = "Do what the test asks."


def _act(ctx: ToolContext, text: str) -> str:
    world.append(ctx.run_id, ctx.call_id, ctx.attempt)
    world.wait_while_held()
    return f"appended {text}"


@tool
def append_world(ctx: ToolContext, text: str) -> str:
    """Append to the world; nothing can tell afterwards whether an interrupted call did."""
    return _act(ctx, text)


@tool(effect="idempotent")
def append_world_again(ctx: ToolContext, text: str) -> str:
    """Append to the world; doing it twice is as good as once."""
    return _act(ctx, text)


@tool(needs_approval=True)
def gated_append(ctx: ToolContext, text: str) -> str:
    """Append to the world once a person has agreed."""
    return _act(ctx, text)


@tool(effect="pure")
def count_frozen(ctx: ToolContext, text: str) -> int:
    """Return how many objects of this process the garbage collector does not look at."""
    return gc.get_freeze_count()


echo = Agent(name="echo", version="1", model=Echo(), instructions=INSTRUCTIONS)
slow = Agent(name="slow", version="1", model=Slow(), instructions=INSTRUCTIONS)
worker_bee = Agent(
    name="worker_bee", version="1", model=AsksOnce("append_world"), instructions=INSTRUCTIONS, tools=[append_world]
)
careful_bee = Agent(
    name="careful_bee",
    version="1",
    model=AsksOnce("append_world_again"),
    instructions=INSTRUCTIONS,
    tools=[append_world_again],
)
gated = Agent(
    name="gated", version="1", model=AsksOnce("gated_append"), instructions=INSTRUCTIONS, tools=[gated_append]
)
gc_probe = Agent(
    name="gc_probe", version="1", model=AsksOnce("count_frozen"), instructions=INSTRUCTIONS, tools=[count_frozen]
)
endless = Agent(name="endless", version="1", model=Slow(pieces=1200, pause=0.1), instructions=INSTRUCTIONS)
side_by_side = Agent(name="side_by_side", version="1", model=Echo(), instructions=INSTRUCTIONS, on_busy="parallel")
counter = Agent(name="counter", version="1", model=CountsOn(), instructions=INSTRUCTIONS)
recaller = Agent(name="recaller", version="1", model=Recalls(), instructions=INSTRUCTIONS)
silent = Agent(name="silent", version="1", model=Slow(pieces=2, pause=100), instructions=INSTRUCTIONS)

# A worker of another release has this agent in another version, or (an empty one) does not have it at all.
RELEASE_VARIABLE = "AGENT_RELEASE"
release = os.environ.get(RELEASE_VARIABLE, "2")
if release:
    pinned = Agent(name="pinned", version=release, model=Echo(), instructions=INSTRUCTIONS, on_version="strict")
