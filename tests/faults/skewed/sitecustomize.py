"""On the path of a process, shifts the clock of its machine by CLOCK_SKEW seconds, for all that Python asks it."""

from __future__ import annotations

import datetime
import os
import time

SKEW = float(os.environ.get("CLOCK_SKEW", "0"))
_time, _time_ns, _datetime = time.time, time.time_ns, datetime.datetime


class _Kind(type(_datetime)):
    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, _datetime)


class Shifted(_datetime, metaclass=_Kind):
    """A datetime whose now is another."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> _datetime:
        return _datetime.now(tz) + datetime.timedelta(seconds=SKEW)

    @classmethod
    def utcnow(cls) -> _datetime:
        return cls.now(datetime.UTC).replace(tzinfo=None)


if SKEW:
    time.time = lambda: _time() + SKEW
    time.time_ns = lambda: _time_ns() + int(SKEW * 1e9)
    datetime.datetime = Shifted  # type: ignore[misc]
