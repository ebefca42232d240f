"""An event is encoded once, with holes; what somebody says is never taken for one."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from django.conf import LazySettings

from agentcore.values import events, holes
from agentcore.values.clock import Later

pytestmark = pytest.mark.once

WHEN = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)
CONTROLS = "".join(map(chr, range(1, 32)))


def shown(event: events.Event, place: int = 0) -> Any:
    return json.loads(event.holed().filled(7, WHEN, place))


@pytest.mark.parametrize("said", [CONTROLS, "\x01", "\x02", "\x03", "\x04", "\\u0001\\u0004"], ids=ascii)
def test_control_characters_that_somebody_says_stay_what_they_are(said: str) -> None:
    assert shown(events.TextDelta(1, said)) == {
        "v": 1, "seq": 7, "type": "text.delta", "ts": "2026-11-22T12:00:00.123Z", "step": 1, "text": said,
    }  # fmt: skip
    asked = events.ApprovalRequest("a", "c", "pay", {said: said}, "d" * 64, Later(60), ("approve",))
    assert shown(asked)["arguments"] == {said: said} and shown(asked)["expires_at"] == "2026-11-22T12:01:00.123Z"


@pytest.mark.parametrize("place", [holes.PLACE, 4], ids=["a hole", "known"])
def test_a_messages_place_is_filled_and_what_it_says_is_not(place: Any) -> None:
    said = {"step_order": holes.PLACE, holes.PLACE: [holes.PLACE]}
    message = {"step_order": place, "key": holes.PLACE, "parts": [{"type": "data", "value": said}]}
    for event in (events.Message(message, 2), events.ThreadMessage(message)):
        found = shown(event, place=4)["message"]
        assert found == {"step_order": 4, "key": holes.PLACE, "parts": [{"type": "data", "value": said}]}


def test_an_event_without_fields_of_its_own_is_whole() -> None:
    assert shown(events.RunResumed()) == {"v": 1, "seq": 7, "type": "run.resumed", "ts": "2026-11-22T12:00:00.123Z"}


def test_what_fills_the_holes_counts_for_the_limit(settings: LazySettings) -> None:
    for length in range(700, 1100):
        settings.AGENTCORE = {**settings.AGENTCORE, "EVENT_LIMIT": 1024}
        data = events.Error("code", "x" * length).holed().filled(2**63, WHEN)
        assert len(data) <= 1024 and json.loads(data)["type"] == "error"
