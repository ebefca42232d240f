"""Models that cost nothing: they decide from the history they are given, and wait for nobody but the clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from agentcore import TextPart, Usage
from agentcore.providers import CallRequested, ModelEvent, ModelRequest, StepFinished, TextDelta, UsageReported
from benchmarks.workload import TOOL, Workload

WORDS_A_STEP = 10
STEP_SECONDS = 0.5
USAGE = UsageReported(Usage(input_tokens=10, output_tokens=40, total_tokens=50))


@dataclass(frozen=True)
class Weather:
    """Asks for the tool as often as its workload does, then says the words of it."""

    workload: Workload
    name: str = "weather"
    provider: str = "benchmarks"

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """Ask for all the calls of a round; say the words when there is no further one."""
        since_prompt = takewhile(lambda message: message.author != "user", reversed(request.messages))
        turn = 1 + sum(message.author == "agent" for message in since_prompt)
        if turn > self.workload.rounds:
            for word in self.workload.words:
                yield TextDelta(word)
            yield USAGE
            yield StepFinished("stop")
        else:
            for call in self.workload.asked(turn):
                yield CallRequested(call.id, TOOL, call.arguments)
            yield USAGE
            yield StepFinished("tool_calls")


@dataclass(frozen=True)
class Talker:
    """Says a word at a steady pace; the prompt says how many and how many seconds apart: `400 0.05`."""

    name: str = "talker"
    provider: str = "benchmarks"

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """Say as many words as the last message asks for, each at its time."""
        asked = next(part.text for part in request.messages[-1].parts if isinstance(part, TextPart))
        count, pause = asked.split()
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number in range(int(count)):
            yield TextDelta(f"word{number} ")
            await asyncio.sleep(max(0.0, began + (number + 1) * float(pause) - loop.time()))
        yield USAGE
        yield StepFinished("stop")


@dataclass(frozen=True)
class Stepper:
    """Says ten words at a steady pace and asks for its tool, again and again, until the file the prompt names exists.

    A run that merely takes a while may be over before the measurement is ready for it.
    """

    name: str = "stepper"
    provider: str = "benchmarks"

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """Say the words of one step; end with them where somebody has let the run go."""
        for number in range(WORDS_A_STEP):
            yield TextDelta(f"word{number} ")
            await asyncio.sleep(STEP_SECONDS / WORDS_A_STEP)
        prompt = next(part.text for part in request.messages[0].parts if isinstance(part, TextPart))
        let_go = await asyncio.to_thread(Path(prompt).exists)
        if not let_go:
            yield CallRequested(f"call_{request.step}", "go_on", {"step": request.step})
        yield USAGE
        yield StepFinished("stop" if let_go else "tool_calls")
