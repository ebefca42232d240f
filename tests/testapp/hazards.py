"""Agents whose tools take their worker with them, each in another way; every call that began is in the world log."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from agentcore import Agent, Limits, ToolContext, tool
from agentcore.providers import CallRequested, ModelEvent, ModelRequest, StepFinished, TextDelta
from tests.testapp import world
from tests.testapp.scripts import USAGE, AsksOnce, results

INSTRUCTIONS = "Do what the test asks."
FOREVER = 3600.0
STEP_SECONDS = 0.25


def _note(ctx: ToolContext) -> bool:
    """Note the call, and return whether it is the first of its run."""
    world.append(ctx.run_id, ctx.call_id, ctx.attempt)
    return [effect.run_id for effect in world.effects(world.log())].count(str(ctx.run_id)) == 1


@tool(effect="idempotent")
async def block_loop(ctx: ToolContext, text: str) -> str:
    """Stand still on the event loop, the first time."""
    if _note(ctx):
        deadline = time.monotonic() + FOREVER
        while time.monotonic() < deadline:
            pass
    return f"unblocked {text}"


@tool(effect="pure", timeout=1)
def never_ends(ctx: ToolContext, text: str) -> str:
    """Outlive the timeout, deaf to everything, the first time."""
    if _note(ctx):
        deadline = time.monotonic() + FOREVER
        while time.monotonic() < deadline:
            try:
                time.sleep(0.05)
            except Exception:
                continue
    return f"ended {text}"


@tool(effect="idempotent")
def die(ctx: ToolContext, text: str) -> str:
    """End the process in the way the text says, every time."""
    _note(ctx)
    if text.startswith("segfault"):
        ctypes.string_at(0)
    elif text.startswith("memory"):
        os.kill(os.getpid(), signal.SIGKILL)  # what the kernel does when there is none left
    os._exit(3)


@tool(effect="idempotent")
async def fall(ctx: ToolContext, text: str) -> str:
    """Break the event loop in the way the text says, every time."""
    _note(ctx)
    loop = asyncio.get_running_loop()
    if text.startswith("task"):
        left = loop.create_task(_raise(KeyboardInterrupt))
        await asyncio.sleep(FOREVER)
        await left
    if text.startswith("callback"):
        loop.call_soon(sys.exit, 0)
        await asyncio.sleep(FOREVER)
    while True:  # blocked
        pass


async def _raise(kind: type[BaseException]) -> None:
    raise kind


@tool(effect="pure")
def interrupt(ctx: ToolContext, text: str) -> str:
    """Raise what ends most programs."""
    _note(ctx)
    raise KeyboardInterrupt


@tool(effect="idempotent")
async def wait_there(ctx: ToolContext, text: str) -> str:
    """Wait for as long as the test holds tools, without holding anybody up."""
    _note(ctx)
    while world.held():  # noqa: ASYNC110 - the test is another process
        await asyncio.sleep(0.02)
    return f"waited {text}"


@tool(effect="idempotent")
async def short_step(ctx: ToolContext, text: str) -> str:
    """Take a moment."""
    _note(ctx)
    await asyncio.sleep(STEP_SECONDS)
    return "done"


@tool
def start_a_process(ctx: ToolContext, text: str) -> str:
    """Start a long program as the documentation says, note its pid, and wait for it."""
    command = ["setpriv", "--pdeathsig", "KILL", "--", "sleep", str(FOREVER)]
    with subprocess.Popen(command, start_new_session=True) as program:
        Path(os.environ[world.HOLD_VARIABLE]).with_suffix(".pid").write_text(str(program.pid))
        try:
            while program.poll() is None and not ctx.cancelled:
                time.sleep(0.05)
        finally:
            if program.poll() is None:
                os.killpg(program.pid, signal.SIGKILL)
    return "ended"


@dataclass(frozen=True)
class AsksOften:
    """Asks for one tool, and again while the test holds tools: many short steps."""

    tool: str
    name: str = "asks-often-1"
    provider: str = "tests"

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        asked = len(results(request))
        more = asked == 0 or world.held()
        if more:
            yield CallRequested(f"{self.tool}-{asked}", self.tool, {"text": str(asked)})
        else:
            yield TextDelta(f"{asked} steps")
        yield USAGE
        yield StepFinished("tool_calls" if more else "stop")


walker = Agent(
    name="walker",
    version="1",
    model=AsksOften("short_step"),
    instructions=INSTRUCTIONS,
    tools=[short_step],
    limits=Limits(max_steps=1000),
)
blocker = Agent(
    name="blocker", version="1", model=AsksOnce("block_loop"), instructions=INSTRUCTIONS, tools=[block_loop]
)
leaker = Agent(name="leaker", version="1", model=AsksOnce("never_ends"), instructions=INSTRUCTIONS, tools=[never_ends])
killer = Agent(name="killer", version="1", model=AsksOnce("die"), instructions=INSTRUCTIONS, tools=[die])
faller = Agent(name="faller", version="1", model=AsksOnce("fall"), instructions=INSTRUCTIONS, tools=[fall])
interrupter = Agent(
    name="interrupter", version="1", model=AsksOnce("interrupt"), instructions=INSTRUCTIONS, tools=[interrupt]
)
waiter = Agent(name="waiter", version="1", model=AsksOnce("wait_there"), instructions=INSTRUCTIONS, tools=[wait_there])
spawner = Agent(
    name="spawner", version="1", model=AsksOnce("start_a_process"), instructions=INSTRUCTIONS, tools=[start_a_process]
)
