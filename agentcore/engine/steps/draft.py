"""A model step while it streams: deltas into the log, parts kept for the message."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...conf import get_settings
from ...declaration.model import (
    CallRequested,
    DataFound,
    FileProduced,
    ModelEvent,
    OutputDelta,
    OutputProduced,
    ProviderCalled,
    ProviderReturned,
    ReasoningDelta,
    ReasoningEnded,
    SourceFound,
    StepFinished,
    TextDelta,
    TextEnded,
    UsageReported,
)
from ...exceptions import ModelError, RunError
from ...values import bounded, events, jsontext, parts
from ...values.events import Event
from ...values.finish import ENDS, End, FinishReason, reason_of
from ...values.functions import kind_of
from ...values.logextra import log_extra
from ...values.parts import FilePart, Part, ProviderCallPart, ProviderDetails, ProviderResultPart, SourcePart
from ...values.usage import Usage
from . import intake
from .content import SPOKEN, Content, Item, Spoken
from .estimate import estimate, length
from .size import Size, check_calls

logger = logging.getLogger("agentcore.engine")

_DELTAS: Mapping[type[ModelEvent], type[events.TextDelta] | type[events.ReasoningDelta] | type[events.OutputDelta]] = {
    TextDelta: events.TextDelta,
    ReasoningDelta: events.ReasoningDelta,
    OutputDelta: events.OutputDelta,
}

WIDEST = 6  # bytes that JSON takes for one character at most
ENVELOPE = 50  # characters that leave room for what else an event says


@dataclass
class Draft:
    """What a model has said so far in one step.

    `take()` gives the events to commit next. The first delta of a part is due at
    once, later ones at most every `FLUSH_INTERVAL`, adjacent ones merged; any other
    event makes everything due.

    A `guarded` one gives nothing away, neither events nor parts to keep, until somebody has agreed to it.
    """

    step: int
    about: Mapping[str, Any] = field(default_factory=dict)
    guarded: bool = False
    usage: Usage = field(default_factory=Usage)
    # How many characters it was asked with, where what it does not report is to be estimated.
    asked_with: int | None = None
    outputs: list[object] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    finish_detail: str = ""
    # Whether the model has said that it stops: of what comes after that, only usage counts.
    ended: bool = False
    # What the provider at `origin` wants back with the answer as a whole.
    origin: str = ""
    response_details: ProviderDetails | None = None
    _content: Content = field(default_factory=Content)
    _waiting: list[Event] = field(default_factory=list)
    _due: float | None = None
    _last_flush: float = 0.0
    # The deltas of one kind that come now and are yet to be taken, and whether any of their part has been.
    _kind: type[ModelEvent] | None = None
    _fresh: list[str] = field(default_factory=list)
    _begun: bool = False
    _begins: bool = False
    # The half of a character whose other half comes with the next delta.
    _half: str = ""
    _size: Size = field(default_factory=Size)
    _ignores: bool = False
    _agreed: bool = False
    # What it had used when something else was put in its place.
    _used: Usage | None = None

    @property
    def items(self) -> list[Item]:
        """What it has said, in its order: parts of a message, calls, and files that are yet to be saved."""
        return self._content.items

    @property
    def parts(self) -> list[Part]:
        """What a message keeps of it where it is broken off; the structured output is kept as a value instead."""
        return [] if self._is_withheld else self._content.parts

    @property
    def is_replaced(self) -> bool:
        """Whether something else was put in the place of what the model said."""
        return self._used is not None

    @property
    def data(self) -> tuple[DataFound, ...]:
        """What it shows beside its message and is yet to be taken."""
        return tuple(DataFound(event.name, event.value) for event in self._waiting if isinstance(event, events.Data))

    @property
    def _is_withheld(self) -> bool:
        return self.guarded and not self._agreed

    @property
    def calls(self) -> list[CallRequested]:
        """What it has asked for."""
        return [item for item in self._content.items if isinstance(item, CallRequested)]

    @property
    def has_begun(self) -> bool:
        """Whether it has said anything at all."""
        return self._size.json > 0

    @property
    def end(self) -> End:
        """What follows from how the model ended; one that does not say why has said all."""
        return ENDS[self.finish_reason or FinishReason.OTHER]

    @property
    def says_something(self) -> bool:
        """Whether there is a text that somebody could read."""
        return self._content.says_something

    @property
    def used(self) -> Usage:
        """What it has used: as it reported, or by an estimate where that is asked for and it has answered."""
        if self._used is not None:
            return self._used
        if self.usage != Usage() or self.asked_with is None:
            return self.usage
        said = parts.to_json(self._content.parts) if self._content.parts else None
        asked = [[call.name, call.arguments] for call in self.calls]
        written = sum(map(length, (said, asked, self.outputs)))
        return estimate(self.asked_with, written) if written or self.ended else self.usage

    def start_over(self) -> None:
        """Forget a try that has failed; what it used is counted elsewhere."""
        for name, value in vars(Draft(self.step, self.about, self.guarded)).items():
            setattr(self, name, value)

    def agree(self) -> None:
        """Let it be known as it is; of the structured output, the value that was judged and no pieces of its text."""
        self._merge()
        self._waiting = [event for event in self._waiting if not isinstance(event, events.OutputDelta)]
        self._agreed = True

    def say_instead(self, *said: ModelEvent) -> None:
        """Forget what was said, also for its provider, and say this in its place; what it used and its end stay."""
        instead = Draft(self.step, self.about)
        for event in said:
            instead.add(event)
        instead._end_part()
        self._used = self.used
        self._content, self._waiting, self._size = instead._content, instead._waiting, instead._size
        self._fresh, self._half, self._begun, self._kind = [], "", False, None
        self.outputs, self.response_details = instead.outputs, None
        self._agreed = True

    def add(self, event: ModelEvent) -> None:
        """Take in one event of the model.

        Raises `ModelError` for one it must not send, and `RunError` for an answer that has
        become too long; what fits of it is kept.
        """
        if self.ended and not isinstance(event, UsageReported):
            self._ignore(kind_of(event))
            return
        event = intake.typed(event, self.about)
        kind = type(event)
        if kind in _DELTAS:
            self._delta(event.text, kind)  # type: ignore[union-attr]
            return
        match event:
            case TextEnded(details) | ReasoningEnded(details):
                self._size.grow(0, details)
                self._end_part(SPOKEN[kind], details)
            case SourceFound(title, url, document, quote, start, end):
                title = title or url or document or ""
                self._size.grow(jsontext.size([title, url, document, quote]))
                self._content.add(SourcePart(title, url, document, quote, start, end))
                self._now(events.Source(self.step, title, url, document, quote or None, start, end))
            case DataFound(name, value):
                value = jsontext.clean(value)
                self._size.grow(jsontext.size([name, value]))
                self._now(events.Data(self.step, name, value))
            case FileProduced():
                self._file(event)
            case ProviderCalled(call_id, name, arguments, details):
                shown = self._shown(call_id + name, arguments, details)
                self._add(ProviderCallPart(call_id, name, shown, provider_details=details))
                self._now(events.ProviderCall(self.step, call_id, name, shown))
            case ProviderReturned(call_id, name, result, details):
                shown = self._shown(call_id + name, result, details)
                self._add(ProviderResultPart(call_id, name, shown, provider_details=details))
                self._now(events.ProviderResult(self.step, call_id, name, shown))
            case CallRequested():
                self._call(event)
            case UsageReported(usage):
                self._count(usage)
            case OutputProduced(value):
                self._end_part()
                self._size.grow(jsontext.size(value))
                self.outputs.append(value)
            case StepFinished(reason, details):
                self._size.grow(0, details)
                self._end_part()
                self.ended = True
                self.response_details = details
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
        check_calls(len(self.calls) + 1)
        kept, _ = intake.arguments(call.arguments, get_settings().arguments_limit)
        self._size.grow(jsontext.size([call.name, kept]), call.provider_details)
        self._add(call)

    def _file(self, file: FileProduced) -> None:
        """Show a file that has an address; one that is bytes has none until the application has saved it."""
        self._size.grow(jsontext.size([file.url, file.filename, file.media_type]), file.provider_details)
        if file.data is not None:
            self._size.grow_files(len(file.data))
            self._add(file)
            return
        self._add(FilePart("", file.filename, file.media_type, file.url, provider_details=file.provider_details))
        self._now(events.File(self.step, file.media_type, url=file.url, filename=file.filename or None))

    def _shown(self, called: str, value: Any, details: ProviderDetails | None) -> Any:
        """Return what is kept and shown of a value that the provider's own tool was given or gave."""
        shown = bounded.cut(value, get_settings().result_limit)
        self._size.grow(jsontext.size([called, shown]), details)
        return shown

    def _add(self, item: Item) -> None:
        self._end_part()
        self._content.add(item)

    def _count(self, report: object) -> None:
        """Take in a report of what the call has used so far; what cannot be counted is left out."""
        self.usage, refused = self.usage.updated(report)
        if refused:
            extra = log_extra("usage_refused", **self.about)
            logger.warning("the model reported usage that is no count: %s", ", ".join(refused), extra=extra)

    def seconds_until_due(self) -> float | None:
        """Return how long the waiting events may still wait; None when there are none."""
        if self._due is None or self._is_withheld:
            return None
        return max(self._due - time.monotonic(), 0.0)

    def take(self) -> list[Event]:
        """Return the waiting events, and wait for the next ones."""
        self._merge()
        if self._is_withheld:
            return []
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
            self._say(text, kind)

    def _say(self, text: str, kind: type[ModelEvent]) -> None:
        if not self._begun:
            self._due = time.monotonic()
        elif self._due is None:
            self._due = self._last_flush + get_settings().flush_interval
        quotes = 0 if self._begun else jsontext.QUOTES  # the deltas of a part are one text
        try:
            self._size.grow(quotes + jsontext.size(text) - jsontext.QUOTES)
        except RunError:
            self._keep(jsontext.beginning(text, max(self._size.room - quotes, 0)), kind)
            raise
        self._keep(text, kind)

    def _keep(self, text: str, kind: type[ModelEvent]) -> None:
        if not text:
            return
        self._fresh.append(text)
        if kind in SPOKEN:
            if not self._begun:
                self._begins = self._content.begins_text(SPOKEN[kind])
            self._content.say(SPOKEN[kind], text)
        self._begun = True

    def _end_part(self, kind: Spoken | None = None, details: ProviderDetails | None = None) -> None:
        """Whatever is said next begins a part of its own; with a kind, the one that ends is of it, and has details."""
        half, self._half = self._half, ""
        if half and self._kind is not None:
            self._say(jsontext.clean_text(half), self._kind)
        self._merge()
        self._content.end(kind, details)
        self._kind, self._begun = None, False

    def _merge(self) -> None:
        """Make one event of the deltas that have gathered."""
        fresh, self._fresh = "".join(self._fresh), []
        if not fresh or self._kind is None:
            return
        most = max(get_settings().event_limit // WIDEST - ENVELOPE, 1)
        delta = _DELTAS[self._kind]
        said: list[Event] = [delta(self.step, fresh[start : start + most]) for start in range(0, len(fresh), most)]
        if self._begins:
            said[0] = events.TextDelta(self.step, fresh[:most], begins=True)
            self._begins = False
        self._waiting += said

    def _now(self, event: Event) -> None:
        self._merge()
        self._waiting.append(event)
        self._due = time.monotonic()
