"""JSON text with holes for what only the database can tell: where it stands in its log, and at what time.

An event is encoded once, before its transaction. The database fills the holes in the statement
that stores it; this module fills them for those who are told at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from .clock import Later, stamp

# Control characters: JSON text has them only as escapes, so nothing that anybody says can be taken for a hole.
SEQ, TIME, LATER, PLACE = "\x01", "\x02", "\x03", "\x04"
_HOLES = re.compile(f"[{SEQ}{TIME}{LATER}{PLACE}]")
_FILLING = "[0-9TZ:.-]+"
WIDEST = 80
"""Bytes that the holes of a text take at most when they are filled."""


@dataclass(frozen=True, slots=True)
class Holed:
    """A text with holes; `later` is the moment, in seconds after the time of its writing, that it tells of."""

    text: str
    later: float | None = None

    def filled(self, seq: int, now: datetime, place: int = 0) -> bytes:
        """Return the bytes to store at a position of the log, for a message also with its place in its turn."""
        text = self.text.replace(SEQ, str(seq), 1).replace(TIME, stamp(now), 1)
        if self.later is not None:
            text = text.replace(LATER, stamp(Later(self.later).after(now)), 1)
        if PLACE in text:
            text = text.replace(PLACE, str(place), 1)
        return text.encode()

    def is_in(self, data: bytes) -> bool:
        """Whether a record has this text, with any values in the holes."""
        pieces = _HOLES.split(self.text)
        return re.fullmatch(_FILLING.join(map(re.escape, pieces)), data.decode(errors="replace")) is not None
