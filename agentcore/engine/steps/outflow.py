"""What is shown of an answer while it is said: pieces of text, merged, and other events, each when it is due."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from ...conf import get_settings
from ...values import events
from ...values.events import Event

Delta = type[events.TextDelta] | type[events.ReasoningDelta] | type[events.OutputDelta]

WIDEST = 6  # bytes that JSON takes for one character at most
ENVELOPE = 50  # characters that leave room for what else an event says


@dataclass
class Outflow:
    """The events of one step that are yet to be committed.

    The first delta of a part is due at once, later ones at most every `FLUSH_INTERVAL`, adjacent ones merged; any
    other event makes everything due.
    """

    step: int
    waiting: list[Event] = field(default_factory=list)
    _due: float | None = None
    _last_flush: float = 0.0
    # Pieces of one kind, and whether the first of them begins a text behind another one.
    _kind: Delta | None = None
    _pieces: list[str] = field(default_factory=list)
    _begins: bool = False

    def say(self, kind: Delta, text: str, *, is_first: bool, begins: bool) -> None:
        """Add a piece of text; `merge` comes before one of another part."""
        if is_first:
            self._due = time.monotonic()
        elif self._due is None:
            self._due = self._last_flush + get_settings().flush_interval
        self._kind = kind
        self._begins = self._begins or begins
        self._pieces.append(text)

    def show(self, event: Event) -> None:
        """Add an event behind what was said."""
        self.merge()
        self.waiting.append(event)
        self._due = time.monotonic()

    def merge(self) -> None:
        """Make one event of the pieces that have gathered, or several where one would be too large."""
        text, self._pieces = "".join(self._pieces), []
        if not text or self._kind is None:
            return
        most = max(get_settings().event_limit // WIDEST - ENVELOPE, 1)
        said: list[Event] = [self._kind(self.step, text[start : start + most]) for start in range(0, len(text), most)]
        if self._begins:
            said[0] = events.TextDelta(self.step, text[:most], begins=True)
            self._begins = False
        self.waiting += said

    def drop(self, kind: type[Event]) -> None:
        """Forget the events of a kind."""
        self.merge()
        self.waiting = [event for event in self.waiting if not isinstance(event, kind)]

    def seconds_until_due(self) -> float | None:
        """Return how long the waiting events may still wait; None when there are none."""
        return None if self._due is None else max(self._due - time.monotonic(), 0.0)

    def take(self) -> list[Event]:
        """Return the waiting events, and wait for the next ones."""
        self.merge()
        taken, self.waiting, self._due = self.waiting, [], None
        self._last_flush = time.monotonic()
        return taken
