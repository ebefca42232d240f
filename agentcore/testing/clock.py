"""A clock that a test may move: what expires in a week expires at once, and nobody sleeps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta

from ..values import clock


class FakeClock:
    """The database's clock as this process reads it, some seconds ahead of (or behind) the real one."""

    @property
    def offset(self) -> float:
        """By how many seconds it is ahead."""
        return clock.offset()

    def advance(self, by: float | timedelta) -> None:
        """Let time pass; a negative time sets the clock back, as a time server may."""
        clock.set_offset(clock.offset() + _seconds(by))

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which a process that is started now reads the same time."""
        return {clock.OFFSET_VARIABLE: str(self.offset)}


@contextlib.contextmanager
def fake_clock(offset: float | timedelta = 0) -> Iterator[FakeClock]:
    """Move the database's clock for this process, and put it back at the end.

    Everything agentcore decides by the time (leases, due times, expiry, events) reads
    that clock. Needs `AGENTCORE["FAILPOINTS"]` in the settings.
    """
    before = clock.offset()
    moved = FakeClock()
    try:
        moved.advance(offset)
        yield moved
    finally:
        clock.set_offset(before)


def _seconds(value: float | timedelta) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else float(value)
