"""Events: encoded once, the same shape for every transport."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta, timezone

import pytest

from agentcore.values import events
from agentcore.values.clock import Later, stamp

pytestmark = pytest.mark.once

WHEN = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)


def kinds() -> list[type[events.Event]]:
    found = [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, events.Event)]
    return [kind for kind in found if kind is not events.Event]


def test_an_event_says_its_version_position_type_and_time_first() -> None:
    data = events.TextDelta(step=2, text="Hé").encode(7, WHEN)
    assert data == '{"v":1,"seq":7,"type":"text.delta","ts":"2026-11-22T12:00:00.123Z","step":2,"text":"Hé"}'.encode()
    assert events.decode(data)["text"] == "Hé"


def test_a_field_that_is_none_is_left_out_and_one_that_is_false_is_not() -> None:
    shown = events.decode(events.ToolResult("c", "add", "succeeded", result=0, error=None).encode(0, WHEN))
    assert shown["result"] == 0 and "error" not in shown
    call = events.decode(events.ToolCall(1, "c", "add", {}, "pure", needs_approval=False).encode(0, WHEN))
    assert call["needs_approval"] is False and call["arguments"] == {}


def test_a_time_after_now_is_counted_from_the_databases_time() -> None:
    asked = events.ApprovalRequest("a", "c", "pay", {}, "d" * 64, Later(60), ("approve",))
    assert events.decode(asked.encode(0, WHEN))["expires_at"] == "2026-11-22T12:01:00.123Z"


def test_times_are_shown_in_utc_whatever_zone_they_come_in() -> None:
    assert stamp(WHEN.astimezone(timezone(timedelta(hours=5, minutes=30)))) == stamp(WHEN)


def test_types_are_unique_and_events_cannot_change() -> None:
    names = [kind.type for kind in kinds()]
    assert len(names) == len(set(names)) > 20
    done = events.Done("failed")
    with pytest.raises(FrozenInstanceError):
        done.status = "succeeded"  # type: ignore[misc]


@pytest.mark.covers("fault:D14")
def test_what_a_model_says_is_clean_on_the_wire() -> None:
    data = events.Data(1, "x\x00", {"n": float("inf"), "s": "\ud800", "big": 2**70}).encode(0, WHEN)
    shown = json.loads(data.decode("utf-8"), parse_constant=pytest.fail)
    assert shown["value"] == {"n": "Infinity", "s": "\ufffd", "big": 2**70} and shown["name"] == "x\ufffd"


def test_an_event_is_one_line() -> None:
    assert b"\n" not in events.TextDelta(1, "a\nb\u2028c").encode(0, WHEN)
