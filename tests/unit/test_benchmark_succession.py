"""A take-over is measured only where the log says that another attempt went on, once, and ended the run, once."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from benchmarks import succession

pytestmark = pytest.mark.once

FIRST = ["run.created", "run.started", "step.started", "text.delta"]
SECOND = ["run.started", "step.reset", "step.started", "text.delta", "done"]


def log(*types: str) -> list[dict[str, Any]]:
    """A log of such events, one a second; every start is the next attempt."""
    events: list[dict[str, Any]] = [
        {"seq": seq, "type": kind, "ts": f"2026-11-25T12:00:{seq:02d}.000Z"} for seq, kind in enumerate(types)
    ]
    starts = (event for event in events if event["type"] == "run.started")
    for attempt, event in enumerate(starts, start=1):
        event["attempt"] = attempt
    for event in events:
        if event["type"] == "done":
            event["status"] = "succeeded"
    return events


def moment(second: int) -> datetime:
    return datetime.fromisoformat(f"2026-11-25T12:00:{second:02d}+00:00")


def test_the_next_event_of_a_lost_run_is_the_start_of_its_next_attempt() -> None:
    found = succession.read(log(*FIRST, *SECOND), 1, released=False)
    assert (found.next_event, found.released) == (moment(4), None)


def test_a_run_that_was_given_back_says_when() -> None:
    found = succession.read(log(*FIRST, "run.released", *SECOND), 1, released=True)
    assert (found.next_event, found.released) == (moment(5), moment(4))


def test_a_run_that_its_own_worker_went_on_with_is_no_take_over() -> None:
    with pytest.raises(AssertionError, match=r"attempts \[1\]"):
        succession.read(log(*FIRST, "text.delta", "done"), 1, released=False)


def test_a_run_that_changed_hands_twice_is_no_take_over() -> None:
    with pytest.raises(AssertionError, match=r"attempts \[1, 2, 3\]"):
        succession.read(log(*FIRST, *FIRST[1:], *SECOND), 1, released=False)


@pytest.mark.parametrize("released", [False, True])
def test_a_run_that_was_given_back_was_not_lost_nor_the_other_way_round(released: bool) -> None:
    middle = [] if released else ["run.released"]
    with pytest.raises(AssertionError, match="ended with"):
        succession.read(log(*FIRST, *middle, *SECOND), 1, released=released)


def test_a_successor_that_said_nothing_did_not_go_on() -> None:
    with pytest.raises(AssertionError, match="said nothing"):
        succession.read(log(*FIRST, "run.started", "done"), 1, released=False)


@pytest.mark.parametrize("tail", [[], ["done"], ["text.delta"]], ids=["never", "twice", "not at the end"])
def test_a_run_ends_once_and_at_the_end_of_its_log(tail: list[str]) -> None:
    events = log(*FIRST, *(SECOND[:-1] if not tail else [*SECOND, *tail]))
    with pytest.raises(AssertionError, match="succeed once"):
        succession.read(events, 1, released=False)


def test_a_run_that_failed_did_not_go_on() -> None:
    events = log(*FIRST, *SECOND)
    events[-1]["status"] = "failed"
    with pytest.raises(AssertionError, match="succeed once"):
        succession.read(events, 1, released=False)


@pytest.mark.parametrize("lost", [0, 4, 6])
def test_a_log_with_gaps_says_nothing(lost: int) -> None:
    events = log(*FIRST, *SECOND)
    del events[lost]
    with pytest.raises(AssertionError, match="gaps"):
        succession.read(events, 1, released=False)
