"""A model step while it streams: deltas into the log, parts kept for the message."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .. import events, jsontext
from ..conf import get_settings
from ..events import Event
from ..exceptions import ModelError
from ..finish import ENDS, End, FinishReason, reason_of
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
from . import estimate

logger = logging.getLogger("agentcore.engine")

_DELTAS: dict[type[ModelEvent], type[events.TextDelta] | type[events.ReasoningDelta] | type[events.OutputDelta]] = {
    TextDelta: events.TextDelta,
    ReasoningDelta: events.ReasoningDelta,
    OutputDelta: events.OutputDelta,
}
_PARTS: dict[type[ModelEvent], type[TextPart] | type[ReasoningPart]] = {
    TextDelta: TextPart,
    ReasoningDelta: ReasoningPart,
}


@dataclass
class Draft:
    """What a model has said so far in one step.

    `take()` gives the events to commit next. The first delta of a part is due at
    once, later ones at most every `FLUSH_INTERVAL`, adjacent ones merged; any other
    event makes everything due.
    """

    step: int
    about: Mapping[str, Any] = field(default_factory=dict)
    calls: list[CallRequested] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    # How many characters it was asked with, where what it does not report is to be estimated.
    asked_with: int | None = None
    outputs: list[object] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    finish_detail: str = ""
    _parts: list[Part] = field(default_factory=list)
    _waiting: list[Event] = field(default_factory=list)
    _due: float | None = None
    _last_flush: float = 0.0
    _kind: type[ModelEvent] | None = None
    # Of the deltas of one kind that come now: all of their part's text, and from where on it waits to be taken.
    _texts: list[str] = field(default_factory=list)
    _taken: int = 0

    @property
    def parts(self) -> list[Part]:
        """What it has said, as the parts of a message; the structured output is kept as a value instead."""
        kind = _PARTS.get(self._kind) if self._kind is not None else None
        return [*self._parts, *([kind("".join(self._texts))] if kind is not None and self._texts else [])]

    @property
    def end(self) -> End:
        """What follows from how the model ended; one that does not say why has said all."""
        return ENDS[self.finish_reason or FinishReason.OTHER]

    @property
    def ended(self) -> bool:
        """Whether the model has said why it stops: what comes after that is no part of its answer."""
        return self.finish_reason is not None

    @property
    def says_something(self) -> bool:
        """Whether there is a text that somebody could read."""
        texts = (part.text for part in self.parts if isinstance(part, TextPart))
        return any(jsontext.is_seen(char) and not char.isspace() for text in texts for char in text)

    @property
    def used(self) -> Usage:
        """What it has used: as it reported, or by an estimate where that is asked for and it has answered."""
        if self.usage != Usage() or self.asked_with is None:
            return self.usage
        written = estimate.answer(self.parts, self.calls, self.outputs)
        return estimate.usage(self.asked_with, written) if written or self.finish_reason else self.usage

    def add(self, event: ModelEvent) -> None:
        """Take in one event of the model; raises `ModelError` for one it must not send."""
        kind = type(event)
        if kind in _DELTAS:
            self._delta(event.text, kind)  # type: ignore[union-attr]
            return
        self._end_part()
        match event:
            case SourceFound(title, url, document):
                self._parts.append(SourcePart(title, url, document))
                self._now(events.Source(self.step, title, url, document))
            case DataFound(name, value):
                self._now(events.Data(self.step, name, jsontext.clean(value)))
            case CallRequested():
                self.calls.append(event)
            case UsageReported(usage):
                self._count(usage)
            case OutputProduced(value):
                self.outputs.append(value)
            case StepFinished(reason):
                self.finish_reason, self.finish_detail = reason_of(reason)
            case _:
                raise ModelError(f"The model sent {type(event).__name__}, which is no model event.", retryable=False)

    def _count(self, report: object) -> None:
        """Take in a report of what the call has used so far; what cannot be counted is left out."""
        self.usage, refused = self.usage.updated(report)
        if refused:
            extra = {**self.about, "action": "usage_refused"}
            logger.warning("the model reported usage that is no count: %s", ", ".join(refused), extra=extra)

    def seconds_until_due(self) -> float | None:
        """Return how long the waiting events may still wait; None when there are none."""
        return None if self._due is None else max(self._due - time.monotonic(), 0.0)

    def take(self) -> list[Event]:
        """Return the waiting events, and wait for the next ones."""
        self._merge()
        taken, self._waiting, self._due = self._waiting, [], None
        self._last_flush = time.monotonic()
        return taken

    def _delta(self, text: str, kind: type[ModelEvent]) -> None:
        if not isinstance(text, str):
            raise TypeError(f"a delta's text is a str, and not {type(text).__name__}")
        if not text:
            return
        if kind is not self._kind:
            self._end_part()
            self._kind = kind
            self._due = time.monotonic()
        elif self._due is None:
            self._due = self._last_flush + get_settings().flush_interval
        self._texts.append(text)

    def _end_part(self) -> None:
        """Whatever comes next begins a part of its own."""
        self._merge()
        self._parts = self.parts
        self._kind, self._texts, self._taken = None, [], 0

    def _merge(self) -> None:
        """Make one event of the deltas that have gathered."""
        fresh = self._texts[self._taken :]
        if fresh and self._kind is not None:
            self._waiting.append(_DELTAS[self._kind](self.step, "".join(fresh)))
            self._taken = len(self._texts)

    def _now(self, event: Event) -> None:
        self._waiting.append(event)
        self._due = time.monotonic()
