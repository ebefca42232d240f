"""Once a model has said why it stops, its answer is complete: only what it used is still counted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from agentcore import Usage, tool
from agentcore.declaration import registry
from agentcore.models import ToolCall
from agentcore.providers import (
    CallRequested,
    DataFound,
    ModelEvent,
    ModelRequest,
    OutputDelta,
    OutputProduced,
    ReasoningDelta,
    SourceFound,
    StepFinished,
    TextDelta,
    UsageReported,
)
from tests.integration.room import log, make

pytestmark = pytest.mark.django_db
RAN: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


@tool
def pay() -> str:
    """Pay."""
    RAN.append("paid")
    return "paid"


class Says:
    """Says the same in every step."""

    name, provider = "says", "tests"

    def __init__(self, *said: ModelEvent) -> None:
        self.said: Sequence[ModelEvent] = said

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        for event in self.said:
            yield event


LATE: dict[str, ModelEvent] = {
    "text": TextDelta(" And more."),
    "reasoning": ReasoningDelta("Hm."),
    "output delta": OutputDelta("{}"),
    "output": OutputProduced({"a": 1}),
    "call": CallRequested("c", "pay", {}),
    "source": SourceFound("A title", url="https://example.com/"),
    "data": DataFound("chart", [1]),
    "another end": StepFinished("length"),
    "a long text": TextDelta("x" * 1_000_000),
}


@pytest.mark.parametrize("late", LATE.values(), ids=LATE)
def test_what_comes_after_the_end_is_no_part_of_the_answer(late: ModelEvent, caplog: Any) -> None:
    with registry.isolated():
        told = make(Says(TextDelta("Done."), StepFinished("stop")), [pay]).play()
    with registry.isolated():
        run = make(Says(TextDelta("Done."), StepFinished("stop"), late, late), [pay]).play()
    assert (run.status, run.error_code, RAN) == ("succeeded", "", [])
    assert run.messages.get(author_kind="agent").text == "Done." and not ToolCall.objects.exists()
    assert [event["type"] for event in log(run)] == [event["type"] for event in log(told)]
    (noted,) = [item for item in caplog.records if getattr(item, "action", "") == "after_the_end"]
    assert type(late).__name__ in noted.getMessage()


def test_what_it_used_is_counted_also_after_the_end() -> None:
    run = make(Says(TextDelta("Done."), StepFinished("stop"), UsageReported(Usage(10, 5, 15)))).play()
    assert run.status == "succeeded" and run.used.total_tokens == 15
