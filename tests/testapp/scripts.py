"""Models that decide from the history they are given, so that another process can take over in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from agentcore import TextPart, ToolResultPart, Usage
from agentcore.providers import (
    CallRequested,
    ModelEvent,
    ModelMessage,
    ModelRequest,
    StepFinished,
    TextDelta,
    UsageReported,
)
from tests.testapp import world

USAGE = UsageReported(Usage(input_tokens=10, output_tokens=5, total_tokens=15))


def since_prompt(messages: tuple[ModelMessage, ...]) -> tuple[ModelMessage, ...]:
    """The last thing the user said and everything after it."""
    starts = [index for index, message in enumerate(messages) if message.author == "user"]
    return messages[starts[-1] :] if starts else messages


def prompt_text(request: ModelRequest) -> str:
    """What the user said last."""
    said = since_prompt(request.messages)[:1]
    return " ".join(part.text for message in said for part in message.parts if isinstance(part, TextPart))


def results(request: ModelRequest) -> list[ToolResultPart]:
    """What the tools of this turn gave back."""
    turn = since_prompt(request.messages)
    return [part for message in turn for part in message.parts if isinstance(part, ToolResultPart)]


@dataclass(frozen=True)
class Echo:
    """Says the prompt back, a word at a time."""

    name: str = "echo-1"
    provider: str = "tests"

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        for word in ("You", "said:", *prompt_text(request).split()):
            yield TextDelta(f"{word} ")
        yield USAGE
        yield StepFinished("stop")


@dataclass(frozen=True)
class Slow:
    """Speaks for `pieces` times `pause` seconds, long enough to be killed, cancelled or watched."""

    pieces: int = 40
    pause: float = 0.05
    name: str = "slow-1"
    provider: str = "tests"

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        for number in range(self.pieces):
            await asyncio.sleep(self.pause)
            yield TextDelta(f"{number} ")
        yield USAGE
        yield StepFinished("stop")


@dataclass(frozen=True)
class CountsOn:
    """Counts for as long as the test holds tools, however long that takes, and then says that it is done."""

    pause: float = 0.05
    name: str = "counts-on-1"
    provider: str = "tests"

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        number = 0
        while number == 0 or world.held():
            await asyncio.sleep(self.pause)
            yield TextDelta(f"{number} ")
            number += 1
        yield TextDelta("done")
        yield USAGE
        yield StepFinished("stop")


@dataclass(frozen=True)
class Recalls:
    """Says how many answers it was shown, once the test holds no tools any more."""

    name: str = "recalls-1"
    provider: str = "tests"

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        await asyncio.to_thread(world.wait_while_held)
        yield TextDelta(str(sum(message.author == "agent" for message in request.messages)))
        yield USAGE
        yield StepFinished("stop")


@dataclass(frozen=True)
class AsksOnce:
    """Asks for one tool, then reports what came back, word for word."""

    tool: str
    name: str = "asks-once-1"
    provider: str = "tests"

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        answers = results(request)
        if answers:
            for answer in answers:
                yield TextDelta(f"{answer.name} {answer.status}: {answer.result or answer.error}")
        else:
            yield CallRequested(f"{self.tool}-{request.step}", self.tool, {"text": prompt_text(request)})
        yield USAGE
        yield StepFinished("stop" if answers else "tool_calls")
