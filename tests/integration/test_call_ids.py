"""The ids of calls are ours: a provider may repeat its own within an answer, or give none."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from agentcore import ToolCallPart, ToolResultPart, tool
from agentcore.models import ToolCall
from agentcore.providers import CallRequested, ModelEvent, ModelRequest, StepFinished, TextDelta
from agentcore.testing import check_invariants
from tests.integration.room import make

pytestmark = [pytest.mark.django_db, pytest.mark.covers("fc:A15")]
RAN: list[int] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


@tool(effect="pure")
def add(number: int) -> int:
    """Add."""
    RAN.append(number)
    return number + 1


class Repeats:
    """Asks for two calls under one id, in two steps, and then says so."""

    name, provider = "repeats", "tests"

    def __init__(self, call_id: str) -> None:
        self.call_id = call_id
        self.requests: list[ModelRequest] = []

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        self.requests.append(request)
        step = len(self.requests)
        if step < 3:
            yield CallRequested(self.call_id, "add", {"number": 10 * step})
            yield CallRequested(self.call_id, "add", {"number": 10 * step + 1})
            yield StepFinished("tool_calls")
        else:
            yield TextDelta("Done.")
            yield StepFinished("stop")


@pytest.mark.parametrize("call_id", ["call_1", "", " ", "x" * 500])
def test_calls_with_one_id_or_none_run_each_once_and_each_has_its_own_result(call_id: str) -> None:
    model = Repeats(call_id)
    run = make(model, [add]).play()
    assert run.status == "succeeded" and sorted(RAN) == [10, 11, 20, 21]
    calls = list(ToolCall.objects.filter(run=run).order_by("created_at", "position"))
    assert len({call.call_id for call in calls}) == 4
    assert [(call.arguments_json["number"], call.result_json) for call in calls] == [
        (10, 11),
        (11, 12),
        (20, 21),
        (21, 22),
    ]
    parts = [part for message in model.requests[-1].messages for part in message.parts]
    asked = [part.call_id for part in parts if isinstance(part, ToolCallPart)]
    answered = {part.call_id: part.result for part in parts if isinstance(part, ToolResultPart)}
    assert asked == [call.call_id for call in calls]
    assert answered == {call.call_id: call.result_json for call in calls}
    assert check_invariants([run.pk]) == []
