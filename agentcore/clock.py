"""Times that only the database can tell, as values to hand over."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


@dataclass(frozen=True)
class Later:
    """A moment some seconds after the one the database will give."""

    seconds: float

    def after(self, now: datetime) -> datetime:
        """Return the moment, once the database has said what time it is."""
        return now + timedelta(seconds=self.seconds)


NOW = Later(0)


def stamp(moment: datetime) -> str:
    """Return a time as events and the API show it: ISO 8601 in UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
