"""`check_model` passes an adapter that keeps the contract, and names each promise that one breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentcore import ToolResultPart, Usage
from agentcore.exceptions import ModelError
from agentcore.providers import (
    CallRequested,
    ModelEvent,
    ModelRequest,
    OutputProduced,
    StepFinished,
    TextDelta,
    UsageReported,
)
from agentcore.testing import check_model
from agentcore.testing.contract import PROMISES

pytestmark = pytest.mark.once


class Good:
    """Answers what the contract asks for."""

    name, provider = "good", "tests"

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        results = [part for message in request.messages for part in message.parts if isinstance(part, ToolResultPart)]
        yield UsageReported(Usage(10, 0))
        if request.tools and not results and request.output_schema is None:
            yield CallRequested("c1", "add", self.arguments())
        elif request.output_schema is not None:
            yield OutputProduced({"sum": 42})
        else:
            yield TextDelta("It is 42. ")
            await asyncio.sleep(0)
            yield TextDelta("Hello.")
        yield UsageReported(Usage(10, 4))
        yield StepFinished("stop")

    def arguments(self) -> Any:
        return '{"a": 19, "b": 23}'


class Changed(Good):
    """Answers otherwise in one way."""

    def __init__(self, change: Any) -> None:
        self.change = change

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        async for event in Good.stream(self, request):
            for changed in self.change(event):
                yield changed


def without(kind: type) -> Any:
    return Changed(lambda event: [] if isinstance(event, kind) else [event])


class BadArguments(Good):
    def arguments(self) -> Any:
        return '{"a": 19'


class OneLoop(Good):
    """Keeps what belongs to the loop it was first asked on."""

    def __init__(self) -> None:
        self.loop: Any = None

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        self.loop = self.loop or asyncio.get_running_loop()
        if self.loop is not asyncio.get_running_loop():
            raise RuntimeError("attached to a different loop")
        async for event in Good.stream(self, request):
            yield event


class NoHistory(Good):
    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        if any(message.author == "system" for message in request.messages):
            raise ModelError("a system message", code="invalid_request")
        async for event in Good.stream(self, request):
            yield event


class OneAtATime(Good):
    busy = False

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        if self.busy:
            raise ModelError("busy", code="overloaded")
        self.busy = True
        try:
            async for event in Good.stream(self, request):
                yield event
        finally:
            self.busy = False


class Keeps(Good):
    """Cannot be closed in the middle."""

    open = False

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        if self.open:
            raise ModelError("the last answer is still open", code="overloaded")
        async for event in Good.stream(self, request):
            self.open = True
            yield event
            self.open = False


def test_an_adapter_that_keeps_the_contract_passes() -> None:
    check_model(Good())


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (object(), "It has a name"),
        (without(TextDelta), "no TextDelta came"),
        (without(StepFinished), "0 StepFinished came"),
        (Changed(lambda event: [event] * (2 if isinstance(event, StepFinished) else 1)), "2 StepFinished came"),
        (Changed(lambda event: [StepFinished("wat")] if isinstance(event, StepFinished) else [event]), "with 'wat'"),
        (without(UsageReported), "reported were Usage"),
        (without(CallRequested), "no CallRequested of `add` came"),
        (BadArguments(), "It asks for a tool with JSON arguments"),
        (without(OutputProduced), r"the outputs are \[\]"),
        (OneLoop(), "attached to a different loop"),
        (NoHistory(), "It takes any part that a history may have"),
        (OneAtATime(), "It answers two requests at once"),
        (Keeps(), "It lets go when its stream is closed"),
    ],
)
def test_each_promise_that_is_broken_is_named(model: Any, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        check_model(model)


def test_all_that_is_broken_is_told_at_once() -> None:
    with pytest.raises(AssertionError) as told:
        check_model(without(object))
    assert f"breaks {len(PROMISES) - 1} of {len(PROMISES)} promises" in str(told.value)
