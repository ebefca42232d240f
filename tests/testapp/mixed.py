"""Agents for the soak: the prompt says what the model does, and every effect is in the world log.

A prompt is a list of rounds, parted by `then`; a round is the tools that are asked
for together, and `stream` a long answer: `pure unsafe then gated then stream`.
What `atomic` does is in the database.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from agentcore import Agent, Checkable, ToolContext, tool
from agentcore.providers import CallRequested, ModelEvent, ModelRequest, StepFinished, TextDelta
from tests.testapp import asked, rows, world
from tests.testapp.scripts import USAGE, prompt_text, results

INSTRUCTIONS = "Do what the soak asks."
ACT_SECONDS = 0.05
RECENT = 100  # what the agents below give their model of a thread, unless they say so
PIECES, PAUSE = 40, 0.08  # longer than a lease of the soak


def _act(ctx: ToolContext, text: str) -> str:
    """Act in the middle, so that there is a time before the effect and one after it."""
    time.sleep(ACT_SECONDS)
    world.append(ctx.run_id, ctx.call_id, ctx.attempt, {"text": text})
    time.sleep(ACT_SECONDS)
    return f"did {text}"


def _happened(arguments: Mapping[str, Any], ctx: ToolContext) -> str | None:
    done = any(effect.call_id == ctx.call_id for effect in world.effects(world.log()))
    return f"did {arguments['text']}" if done else None


@tool
def unsafe(ctx: ToolContext, text: str) -> str:
    """Act; nothing can tell afterwards whether an interrupted call did."""
    return _act(ctx, text)


@tool(effect="idempotent")
async def idempotent(ctx: ToolContext, text: str) -> str:
    """Act; doing it twice is as good as once."""
    await asyncio.sleep(ACT_SECONDS)
    world.append(ctx.run_id, ctx.call_id, ctx.attempt, {"text": text})
    ctx.progress({"half": True})
    await asyncio.sleep(ACT_SECONDS)
    return f"did {text}"


@tool(effect=Checkable(_happened))
def checkable(ctx: ToolContext, text: str) -> str:
    """Act, in a way that can be looked up."""
    return _act(ctx, text)


@tool(effect="atomic")
def atomic(ctx: ToolContext, text: str) -> str:
    """Act on the database, and nowhere else."""
    time.sleep(ACT_SECONDS)
    rows.write(ctx)
    time.sleep(ACT_SECONDS)
    return f"did {text}"


@tool(effect="pure")
def pure(ctx: ToolContext, text: str) -> str:
    """Look only."""
    return _act(ctx, text)


@tool(needs_approval=True)
def gated(ctx: ToolContext, text: str) -> str:
    """Act once a person has agreed."""
    return _act(ctx, text)


TOOLS = [unsafe, idempotent, checkable, atomic, pure, gated]
ACTING = frozenset(item.name for item in TOOLS)


@dataclass(frozen=True)
class FollowsThePrompt:
    """Asks for each round's tools, then speaks."""

    name: str = "follows-the-prompt-1"
    provider: str = "tests"

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        # Turns are cut whole, so that a history that was cut may have fewer messages than the limit.
        asked.note(request, whole=len(request.messages) < RECENT // 2)
        rounds = [part.split() for part in prompt_text(request).split(" then ")]
        answered = len(results(request))
        for number, words in enumerate(rounds):
            wanted = [word for word in words if word in ACTING]
            if answered >= len(wanted):
                answered -= len(wanted)
                continue
            yield TextDelta(f"Round {number}. ")
            for place, name in enumerate(wanted):
                yield CallRequested(f"{name}-{number}-{place}", name, {"text": f"{name} {number}"})
            yield USAGE
            yield StepFinished("tool_calls")
            return
        yield TextDelta(f"Run {request.run_id}: ")  # so that no two answers are alike
        for piece in range(PIECES if "stream" in rounds[-1] else 3):
            await asyncio.sleep(PAUSE if "stream" in rounds[-1] else 0)
            yield TextDelta(f"{piece} ")
        yield USAGE
        yield StepFinished("stop")


mixed = Agent(name="mixed", version="1", model=FollowsThePrompt(), instructions=INSTRUCTIONS, tools=TOOLS)
mixed_parallel = Agent(
    name="mixed_parallel",
    version="1",
    model=FollowsThePrompt(),
    instructions=INSTRUCTIONS,
    tools=TOOLS,
    on_busy="parallel",
)
