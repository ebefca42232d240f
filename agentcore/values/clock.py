"""Times that only the database can tell, as values to hand over; and by how much a test has moved its clock."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from ..conf import get_settings

OFFSET_VARIABLE = "AGENTCORE_CLOCK_OFFSET"


@dataclass(frozen=True)
class Later:
    """A moment some seconds, to the millisecond, after the one the database will give."""

    seconds: float

    def __post_init__(self) -> None:
        # Both databases and Python agree on a time of whole milliseconds, and each cuts or rounds another in its way.
        object.__setattr__(self, "seconds", round(self.seconds, 3))

    def after(self, now: datetime) -> datetime:
        """Return the moment, once the database has said what time it is."""
        return now + timedelta(seconds=self.seconds)


NOW = Later(0)


@lru_cache(maxsize=256)
def stamp(moment: datetime) -> str:
    """Return a time as events and the API show it: ISO 8601 in UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_offset: float | None = None  # unread


def offset() -> float:
    """Return by how many seconds this process takes the database's clock to be ahead; 0 outside of tests.

    Read from the environment, where `AGENTCORE["FAILPOINTS"]` allows it.
    """
    global _offset
    if _offset is None:
        given = os.environ.get(OFFSET_VARIABLE, "")
        _offset = float(given) if given and get_settings().failpoints else 0.0
    return _offset


def set_offset(seconds: float) -> None:
    """Move the clock for this process; `agentcore.testing.fake_clock` does so and puts it back."""
    global _offset
    if seconds and not get_settings().failpoints:
        raise RuntimeError("AGENTCORE['FAILPOINTS'] is not true, so the clock cannot be moved")
    _offset = seconds
