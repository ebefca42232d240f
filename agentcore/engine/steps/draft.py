"""A model step while it streams: deltas into the log, parts kept for the message."""

from __future__ import annotations

import logging
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
from .outflow import Delta, Outflow
from .size import Size, check_calls

logger = logging.getLogger("agentcore.engine")

_DELTAS: Mapping[type[ModelEvent], Delta] = {
    TextDelta: events.TextDelta,
    ReasoningDelta: events.ReasoningDelta,
    OutputDelta: events.OutputDelta,
}


@dataclass
class Draft:
    """What a model has said so far in one step.

    `take()` gives the events to commit next; see `Outflow`. A `guarded` one gives nothing away, neither events nor
    parts to keep, until somebody has agreed to it.
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
    # All that it has said, in its order; what may be shown of it, `parts` and `take` say.
    content: Content = field(default_factory=Content)
    # What kind of delta comes now, and whether any of its part has come.
    _kind: type[ModelEvent] | None = None
    _begun: bool = False
    # The half of a character whose other half comes with the next delta.
    _half: str = ""
    _size: Size = field(default_factory=Size)
    _ignores: bool = False
    _agreed: bool = False
    # What it had used when something else was put in its place.
    _used: Usage | None = None
    _out: Outflow = field(init=False)

    def __post_init__(self) -> None:
        self._out = Outflow(self.step)

    @property
    def parts(self) -> list[Part]:
        """What a message keeps of it where it is broken off; the structured output is kept as a value instead."""
        return [] if self._is_withheld else self.content.parts

    @property
    def is_replaced(self) -> bool:
        """Whether something else was put in the place of what the model said."""
        return self._used is not None

    @property
    def data(self) -> tuple[DataFound, ...]:
        """What it shows beside its message and is yet to be taken."""
        shown = (event for event in self._out.waiting if isinstance(event, events.Data))
        return tuple(DataFound(event.name, event.value) for event in shown)

    @property
    def _is_withheld(self) -> bool:
        return self.guarded and not self._agreed

    @property
    def calls(self) -> list[CallRequested]:
        """What it has asked for."""
        return [item for item in self.content.items if isinstance(item, CallRequested)]

    @property
    def has_begun(self) -> bool:
        """Whether it has said anything at all."""
        return self._size.json > 0

    @property
    def end(self) -> End:
        """What follows from how the model ended; one that does not say why has said all."""
        return ENDS[self.finish_reason or FinishReason.OTHER]

    @property
    def used(self) -> Usage:
        """What it has used: as it reported, or by an estimate where that is asked for and it has answered."""
        if self._used is not None:
            return self._used
        if self.usage != Usage() or self.asked_with is None:
            return self.usage
        said = parts.to_json(self.content.parts) if self.content.parts else None
        asked = [[call.name, call.arguments] for call in self.calls]
        written = sum(map(length, (said, asked, self.outputs)))
        return estimate(self.asked_with, written) if written or self.ended else self.usage

    def start_over(self) -> None:
        """Forget a try that has failed; what it used is counted elsewhere."""
        Draft.__init__(self, self.step, self.about, self.guarded)

    def agree(self) -> None:
        """Let it be known as it is; of the structured output, the value that was judged and no pieces of its text."""
        self._out.drop(events.OutputDelta)
        self._agreed = True

    def say_instead(self, *said: ModelEvent) -> None:
        """Put this in the place of what was said, also for its provider; what was used, and how it ended, stays."""
        instead = Draft(self.step, self.about)
        for event in said:
            instead.add(event)
        instead._end_part()
        self._used = self.used
        self.content, self._out, self._size = instead.content, instead._out, instead._size
        self._half, self._begun, self._kind = "", False, None
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
                self.content.add(SourcePart(title, url, document, quote, start, end))
                self._out.show(events.Source(self.step, title, url, document, quote or None, start, end))
            case DataFound(name, value):
                value = jsontext.clean(value)
                self._size.grow(jsontext.size([name, value]))
                self._out.show(events.Data(self.step, name, value))
            case FileProduced():
                self._file(event)
            case ProviderCalled(call_id, name, arguments, details):
                shown = self._shown(call_id + name, arguments, details)
                self._add(ProviderCallPart(call_id, name, shown, provider_details=details))
                self._out.show(events.ProviderCall(self.step, call_id, name, shown))
            case ProviderReturned(call_id, name, result, details):
                shown = self._shown(call_id + name, result, details)
                self._add(ProviderResultPart(call_id, name, shown, provider_details=details))
                self._out.show(events.ProviderResult(self.step, call_id, name, shown))
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
        self._out.show(events.File(self.step, file.media_type, url=file.url, filename=file.filename or None))

    def _shown(self, called: str, value: Any, details: ProviderDetails | None) -> Any:
        """Return what is kept and shown of a value that the provider's own tool was given or gave."""
        shown = bounded.cut(value, get_settings().result_limit)
        self._size.grow(jsontext.size([called, shown]), details)
        return shown

    def _add(self, item: Item) -> None:
        self._end_part()
        self.content.add(item)

    def _count(self, report: object) -> None:
        """Take in a report of what the call has used so far; what cannot be counted is left out."""
        self.usage, refused = self.usage.updated(report)
        if refused:
            extra = log_extra("usage_refused", **self.about)
            logger.warning("the model reported usage that is no count: %s", ", ".join(refused), extra=extra)

    def seconds_until_due(self) -> float | None:
        """Return how long the waiting events may still wait; None when there are none."""
        return None if self._is_withheld else self._out.seconds_until_due()

    def take(self) -> list[Event]:
        """Return the waiting events, and wait for the next ones."""
        return [] if self._is_withheld else self._out.take()

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
        spoken, is_first = SPOKEN.get(kind), not self._begun
        begins = spoken is not None and is_first and self.content.begins_text(spoken)
        if spoken is not None:
            self.content.say(spoken, text)
        self._out.say(_DELTAS[kind], text, is_first=is_first, begins=begins)
        self._begun = True

    def _end_part(self, kind: Spoken | None = None, details: ProviderDetails | None = None) -> None:
        """End the part that is being said; with a kind, end one of that kind, which has these details."""
        half, self._half = self._half, ""
        if half and self._kind is not None:
            self._say(jsontext.clean_text(half), self._kind)
        self._out.merge()
        self.content.end(kind, details)
        self._kind, self._begun = None, False
