"""What the log of a run must say that another worker went on with; the time until anything else is no take-over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

Event = Mapping[str, Any]


@dataclass(frozen=True)
class Succession:
    """When the next attempt said its first word in the log, and when the one before gave the run back, if it did."""

    next_event: datetime
    released: datetime | None


def read(log: Sequence[Event], attempt: int, *, released: bool) -> Succession:
    """Find where the attempt after `attempt` begins in a run's whole log.

    Raises `AssertionError` unless the log is whole, the run went on once and ended
    once, and its last worker gave it back, or did not, as `released` says.
    """
    _check_whole(log)
    begun = [place for place, event in enumerate(log) if event["type"] == "run.started"]
    attempts = [log[place]["attempt"] for place in begun]
    if attempts != [*range(1, attempt + 2)]:
        raise AssertionError(f"attempt {attempt} was to have one successor, but there are attempts {attempts}")
    *_, place = begun
    before, after = log[place - 1], log[place:]
    if (before["type"] == "run.released") != released:
        raise AssertionError(f"the attempt before the last one ended with {before['type']}")
    if not any(event["type"] == "text.delta" for event in after):
        raise AssertionError("the last attempt said nothing")
    return Succession(_moment(log[place]), _moment(before) if released else None)


def _check_whole(log: Sequence[Event]) -> None:
    if not log or log[0]["seq"] != 0 or any(one["seq"] + 1 != two["seq"] for one, two in pairwise(log)):
        raise AssertionError(f"the log has gaps: {[event['seq'] for event in log]}")
    ends = [event for event in log if event["type"] == "done"]
    if len(ends) != 1 or log[-1] is not ends[0] or ends[0]["status"] != "succeeded":
        raise AssertionError(f"the run did not succeed once, at the end of its log: {ends}, {log[-1]['type']}")


def _moment(event: Event) -> datetime:
    return datetime.fromisoformat(event["ts"])
