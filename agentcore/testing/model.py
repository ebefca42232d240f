"""A model that says what a test wrote down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..declaration.model import (
    CallRequested,
    ModelEvent,
    ModelRequest,
    OutputProduced,
    ReasoningDelta,
    StepFinished,
    TextDelta,
    UsageReported,
)
from ..values.usage import Usage

Call = tuple[str, Mapping[str, Any]]


class UnexpectedCall(AssertionError):
    """The model was called more often than the test wrote down."""


@dataclass(frozen=True)
class Turn:
    """One model call: text (whole, or as `deltas`), tool calls, output, usage; or an `error` it raises at the end.

    `finish` is why it stops; by itself it says `tool_calls` or `stop`.
    """

    text: str = ""
    deltas: Sequence[str] = ()
    reasoning: str = ""
    calls: Sequence[Call] = ()
    output: Any = None
    usage: Usage = field(default_factory=lambda: Usage(10, 5, 15))
    delay: float = 0.0
    error: BaseException | None = None
    finish: str = ""


class ScriptedModel:
    """Plays its turns in order and keeps every request it was sent.

    A call beyond the script raises `UnexpectedCall`; `assert_finished()` fails
    while a turn is left.
    """

    name = "scripted"
    provider = "agentcore.testing"

    def __init__(self, turns: Sequence[Turn]) -> None:
        self.turns = list(turns)
        self.requests: list[ModelRequest] = []

    def assert_finished(self) -> None:
        """Raise `AssertionError` while the script is not played to its end."""
        left = len(self.turns) - len(self.requests)
        assert left <= 0, f"{left} scripted turn(s) were never asked for"

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """Play the next turn."""
        self.requests.append(request)
        if len(self.requests) > len(self.turns):
            raise UnexpectedCall(f"model call {len(self.requests)}, but the script has {len(self.turns)} turn(s)")
        turn = self.turns[len(self.requests) - 1]
        if turn.reasoning:
            yield ReasoningDelta(turn.reasoning)
        for text in turn.deltas or ([turn.text] if turn.text else []):
            yield TextDelta(text)
            await asyncio.sleep(turn.delay)
        if turn.error is not None:
            raise turn.error
        for number, (name, arguments) in enumerate(turn.calls):
            yield CallRequested(f"scripted_{len(self.requests)}_{number}", name, arguments)
        if turn.output is not None:
            yield OutputProduced(turn.output)
        yield UsageReported(turn.usage)
        yield StepFinished(turn.finish or ("tool_calls" if turn.calls else "stop"))
