"""A model step while it streams: deltas into the log, parts kept for the message."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from .. import events
from ..conf import get_settings
from ..events import Event
from ..exceptions import ModelError
from ..parts import Part, ReasoningPart, SourcePart, TextPart
from ..providers.base import (
    CallRequested,
    DataFound,
    ModelEvent,
    OutputDelta,
    OutputProduced,
    ReasoningDelta,
    SourceFound,
    StepFinished,
    TextDelta,
    UsageReported,
)
from ..usage import Usage

_DELTAS: dict[type[ModelEvent], type[events.TextDelta] | type[events.ReasoningDelta] | type[events.OutputDelta]] = {
    TextDelta: events.TextDelta,
    ReasoningDelta: events.ReasoningDelta,
    OutputDelta: events.OutputDelta,
}


@dataclass
class Draft:
    """What a model has said so far in one step.

    `take()` gives the events to commit next. The first delta of a part is due at
    once, later ones at most every `FLUSH_INTERVAL`, adjacent ones merged; any other
    event makes everything due.
    """

    step: int
    parts: list[Part] = field(default_factory=list)
    calls: list[CallRequested] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    outputs: list[object] = field(default_factory=list)
    finish_reason: str = ""
    _waiting: list[Event] = field(default_factory=list)
    _due: float | None = None
    _last_flush: float = 0.0
    _last_kind: type[ModelEvent] | None = None

    def add(self, event: ModelEvent) -> None:
        """Take in one event of the model; raises `ModelError` for one it must not send."""
        match event:
            case TextDelta() | ReasoningDelta() | OutputDelta():
                self._delta(event)
            case SourceFound(title, url, document):
                self.parts.append(SourcePart(title, url, document))
                self._now(events.Source(self.step, title, url, document))
            case DataFound(name, value):
                self._now(events.Data(self.step, name, value))
            case CallRequested():
                self.calls.append(event)
            case UsageReported(usage):
                self.usage += usage
            case OutputProduced(value):
                self.outputs.append(value)
            case StepFinished(reason):
                self.finish_reason = reason
            case _:
                raise ModelError(f"The model sent {type(event).__name__}, which is no model event.", retryable=False)
        self._last_kind = type(event)

    def seconds_until_due(self) -> float | None:
        """Return how long the waiting events may still wait; None when there are none."""
        return None if self._due is None else max(self._due - time.monotonic(), 0.0)

    def take(self) -> list[Event]:
        """Return the waiting events, and wait for the next ones."""
        taken, self._waiting, self._due = self._waiting, [], None
        self._last_flush = time.monotonic()
        return taken

    def _delta(self, event: TextDelta | ReasoningDelta | OutputDelta) -> None:
        if not event.text:
            return
        starts_part = type(event) is not self._last_kind
        delta = _DELTAS[type(event)](self.step, event.text)
        last = self._waiting[-1] if self._waiting else None
        if isinstance(last, events.TEXT_LIKE) and type(last) is type(delta):
            self._waiting[-1] = type(last)(self.step, last.text + event.text)
        else:
            self._waiting.append(delta)
        self._keep(event, starts_part)
        if starts_part:
            self._due = time.monotonic()
        elif self._due is None:
            self._due = self._last_flush + get_settings().flush_interval

    def _keep(self, event: TextDelta | ReasoningDelta | OutputDelta, starts_part: bool) -> None:
        """Add a delta to the message's parts; the structured output is kept as a value instead."""
        if isinstance(event, OutputDelta):
            return
        kind = TextPart if isinstance(event, TextDelta) else ReasoningPart
        last = self.parts[-1] if self.parts and not starts_part else None
        if isinstance(last, TextPart | ReasoningPart) and isinstance(last, kind):
            self.parts[-1] = kind(last.text + event.text)
        else:
            self.parts.append(kind(event.text))

    def _now(self, event: Event) -> None:
        self._waiting.append(event)
        self._due = time.monotonic()
