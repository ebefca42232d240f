"""A model step while it streams: deltas into the log, parts kept for the message."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...conf import get_settings
from ...declaration.model import (
    CallRequested,
    DataFound,
    ModelEvent,
    ModelRequest,
    OutputDelta,
    OutputProduced,
    ReasoningDelta,
    SourceFound,
    StepFinished,
    TextDelta,
    UsageReported,
)
from ...exceptions import ModelError, RunError
from ...values import events, jsontext, parts
from ...values.events import Event
from ...values.finish import ENDS, End, FinishReason, reason_of
from ...values.functions import kind_of
from ...values.logextra import log_extra
from ...values.parts import Part, ReasoningPart, SourcePart, TextPart
from ...values.usage import Usage
from . import intake

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


CHARACTERS_PER_TOKEN = 4
ESTIMATED = "estimated_tokens"
"""The detail of a usage that says how many of its tokens nobody has counted."""
WIDEST = 6  # bytes that JSON takes for one character at most
ENVELOPE = 50  # characters that leave room for what else an event says
TOO_LONG = "The answer became too long and was broken off; what came until then is kept. Ask for less at once."
TOO_MANY_CALLS = "The model asked for too much at once, and was stopped. Ask for less at once."


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
    # Whether the model has said that it stops: of what comes after that, only usage counts.
    ended: bool = False
    _parts: list[Part] = field(default_factory=list)
    _waiting: list[Event] = field(default_factory=list)
    _due: float | None = None
    _last_flush: float = 0.0
    _kind: type[ModelEvent] | None = None
    # Of the deltas of one kind that come now: all of their part's text, and from where on it waits to be taken.
    _texts: list[str] = field(default_factory=list)
    _taken: int = 0
    # The half of a character whose other half comes with the next delta.
    _half: str = ""
    _size: int = 0
    _ignores: bool = False

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
    def says_something(self) -> bool:
        """Whether there is a text that somebody could read."""
        texts = (part.text for part in self.parts if isinstance(part, TextPart))
        return any(jsontext.is_seen(char) and not char.isspace() for text in texts for char in text)

    @property
    def used(self) -> Usage:
        """What it has used: as it reported, or by an estimate where that is asked for and it has answered."""
        if self.usage != Usage() or self.asked_with is None:
            return self.usage
        said = parts.to_json(self.parts) if self.parts else None
        asked = [[call.name, call.arguments] for call in self.calls]
        written = sum(map(_length, (said, asked, self.outputs)))
        return _estimate(self.asked_with, written) if written or self.ended else self.usage

    def add(self, event: ModelEvent) -> None:
        """Take in one event of the model.

        Raises `ModelError` for one it must not send, and `RunError` for an answer that has
        become too long; what fits of it is kept.
        """
        if self.ended and not isinstance(event, UsageReported):
            self._ignore(kind_of(event))
            return
        event = intake.typed(event)
        kind = type(event)
        if kind in _DELTAS:
            self._delta(event.text, kind)  # type: ignore[union-attr]
            return
        self._end_part()
        match event:
            case SourceFound(title, url, document):
                title = title or url or document or ""
                self._grow(jsontext.size([title, url, document]))
                self._parts.append(SourcePart(title, url, document))
                self._now(events.Source(self.step, title, url, document))
            case DataFound(name, value):
                value = jsontext.clean(value)
                self._grow(jsontext.size([name, value]))
                self._now(events.Data(self.step, name, value))
            case CallRequested():
                self._call(event)
            case UsageReported(usage):
                self._count(usage)
            case OutputProduced(value):
                self._grow(jsontext.size(value))
                self.outputs.append(value)
            case StepFinished(reason):
                self.ended = True
                if reason is not None:
                    self.finish_reason, self.finish_detail = reason_of(reason)
            case _:
                raise ModelError(f"The model sent {kind_of(event)}, which is no model event.", retryable=False)

    def _ignore(self, name: str) -> None:
        """Leave out what comes after the end, and say so once."""
        if not self._ignores:
            extra = log_extra("after_the_end", **self.about)
            logger.warning("the model sent %s after its answer was complete; it is left out", name, extra=extra)
        self._ignores = True

    def _call(self, call: CallRequested) -> None:
        settings = get_settings()
        if len(self.calls) >= settings.calls_limit:
            detail = f"The answer asks for more than the {settings.calls_limit} calls of CALLS_LIMIT."
            raise RunError(TOO_MANY_CALLS, code="too_many_calls", detail=detail)
        kept, _ = intake.arguments(call.arguments, settings.arguments_limit)
        self._grow(jsontext.size([call.name, kept]))
        self.calls.append(call)

    def _grow(self, more: int) -> None:
        """Count the bytes that the answer takes; raises `RunError` where that is too much."""
        size, limit = self._size + more, get_settings().answer_limit
        if size > limit:
            detail = f"The answer takes more than the {limit} bytes of ANSWER_LIMIT."
            raise RunError(TOO_LONG, code="answer_too_long", detail=detail)
        self._size = size

    def _count(self, report: object) -> None:
        """Take in a report of what the call has used so far; what cannot be counted is left out."""
        self.usage, refused = self.usage.updated(report)
        if refused:
            extra = log_extra("usage_refused", **self.about)
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
        if not text:
            return
        if kind is not self._kind:
            self._end_part()
            self._kind = kind
        text, self._half = jsontext.whole(self._half + text)
        if text:
            self._say(text)

    def _say(self, text: str) -> None:
        if not self._texts:
            self._due = time.monotonic()
        elif self._due is None:
            self._due = self._last_flush + get_settings().flush_interval
        quotes = 0 if self._texts else jsontext.QUOTES  # the deltas of a part are one text
        try:
            self._grow(quotes + jsontext.size(text) - jsontext.QUOTES)
        except RunError:
            room = max(get_settings().answer_limit - self._size - quotes, 0)
            fits = jsontext.beginning(text, room)
            self._texts += [fits] if fits else []
            raise
        self._texts.append(text)

    def _end_part(self) -> None:
        """Whatever comes next begins a part of its own."""
        half, self._half = self._half, ""
        if half:
            self._say(jsontext.clean_text(half))
        self._merge()
        self._parts = self.parts
        self._kind, self._texts, self._taken = None, [], 0

    def _merge(self) -> None:
        """Make one event of the deltas that have gathered."""
        fresh = self._texts[self._taken :]
        if fresh and self._kind is not None:
            text, most = "".join(fresh), max(get_settings().event_limit // WIDEST - ENVELOPE, 1)
            pieces = (text[start : start + most] for start in range(0, len(text), most))
            self._waiting += [_DELTAS[self._kind](self.step, piece) for piece in pieces]
            self._taken = len(self._texts)

    def _now(self, event: Event) -> None:
        self._waiting.append(event)
        self._due = time.monotonic()


def length_of(request: ModelRequest) -> int:
    """Return how many characters a request has, for an estimate of its tokens."""
    said = [parts.to_json(message.parts) for message in request.messages]
    tools = [[tool.name, tool.description, tool.parameters] for tool in request.tools]
    texts = [request.instructions, request.feedback, *(block.text for block in request.context)]
    return sum(map(len, texts)) + _length(said) + _length(tools) + _length(request.output_schema)


def _estimate(read: int, written: int) -> Usage:
    """Return what so many characters count as, marked as an estimate."""
    tokens_in, tokens_out = -(-read // CHARACTERS_PER_TOKEN), -(-written // CHARACTERS_PER_TOKEN)
    return Usage(tokens_in, tokens_out, tokens_in + tokens_out, {ESTIMATED: tokens_in + tokens_out})


def _length(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, default=str)) if value else 0
