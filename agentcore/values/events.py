"""The events of a run's log and of a thread's log: one frozen dataclass each, encoded once.

On the wire an event is `{"v": 1, "seq": n, "type": "text.delta", "ts": "…Z", …}`.
A field that is `None` is left out. Readers ignore types they do not know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from ..conf import get_settings
from . import bounded, holes, jsontext
from .clock import Later
from .holes import Holed

VERSION = 1
WIDEST = 8  # bytes of JSON that one character of a bounded value may take, with what stands between values


@dataclass(frozen=True)
class Event:
    """What all events share."""

    type: ClassVar[str]

    def payload(self) -> dict[str, Any]:
        """Return the event's own fields; those that are None are left out."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def holed(self) -> Holed:
        """Return what every transport sends, compact JSON, with holes for its position and its times."""
        own, later = self.payload(), None
        head = f'{{"v":{VERSION},"seq":{holes.SEQ},"type":"{self.type}","ts":"{holes.TIME}"'
        for name, value in list(own.items()):
            if isinstance(value, Later):
                if later is not None:
                    raise TypeError(f"{self.type} tells of two times to come; a record has one hole for them")
                later = own.pop(name).seconds
                head += f',"{name}":"{holes.LATER}"'
        body, limit = jsontext.encode(own), get_settings().event_limit
        if len(head) + len(body) + holes.WIDEST > limit:
            # No transport carries it: what is cut says so, in the place where it is cut.
            body = jsontext.encode({**bounded.cut(own, limit // WIDEST), "cut": True})
        return Holed(head + self._with_its_holes(f",{body.decode()[1:]}" if own else "}"), later)

    def _with_its_holes(self, body: str) -> str:
        return body

    def encode(self, seq: int, ts: datetime) -> bytes:
        """Return the bytes of the event at its position."""
        return self.holed().filled(seq, ts)


def decode(data: bytes) -> dict[str, Any]:
    """Return an encoded event as a plain dict."""
    event: dict[str, Any] = json.loads(data)
    return event


# --- the run ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunCreated(Event):
    type = "run.created"
    run: str
    thread: str
    agent: str
    agent_version: str
    number: int
    order: int
    prompt: str | None = None
    retry_of: str | None = None


@dataclass(frozen=True)
class RunStarted(Event):
    type = "run.started"
    attempt: int


@dataclass(frozen=True)
class RunReleased(Event):
    """The worker gave the run back at a step boundary; it goes on later."""

    type = "run.released"
    reason: str
    available_at: Later | None = None


@dataclass(frozen=True)
class RunWaiting(Event):
    type = "run.waiting"
    reasons: Sequence[str]


@dataclass(frozen=True)
class RunResumed(Event):
    type = "run.resumed"


@dataclass(frozen=True)
class Error(Event):
    """Why the run failed; `retry_after` is in seconds, where its provider named a time."""

    type = "error"
    code: str
    message: str
    retry_after: float | None = None


@dataclass(frozen=True)
class Done(Event):
    """The run has ended; `finish_reason` is that of the answer which ended it."""

    type = "done"
    status: str
    finish_reason: str | None = None


# --- a step -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StepStarted(Event):
    type = "step.started"
    step: int
    kind: str
    attempt: int
    model: str | None = None
    provider: str | None = None
    context: Sequence[Mapping[str, Any]] | None = None


@dataclass(frozen=True)
class StepReset(Event):
    """What this step has streamed so far is void; it starts over."""

    type = "step.reset"
    step: int
    attempt: int
    reason: str


@dataclass(frozen=True)
class StepFinished(Event):
    type = "step.finished"
    step: int
    finish_reason: str | None = None


@dataclass(frozen=True)
class TextDelta(Event):
    """The next piece of the answer; where it begins a text part behind another one, it says so."""

    type = "text.delta"
    step: int
    text: str
    begins: bool | None = None


@dataclass(frozen=True)
class ReasoningDelta(Event):
    type = "reasoning.delta"
    step: int
    text: str


@dataclass(frozen=True)
class OutputDelta(Event):
    type = "output.delta"
    step: int
    text: str


@dataclass(frozen=True)
class Source(Event):
    type = "source"
    step: int
    title: str
    url: str | None = None
    document: str | None = None
    quote: str | None = None
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True)
class File(Event):
    """A file that the model made: one of the application's, or one at an address."""

    type = "file"
    step: int
    media_type: str
    file_id: str | None = None
    url: str | None = None
    filename: str | None = None


@dataclass(frozen=True)
class ProviderCall(Event):
    """The model's provider runs a tool of its own."""

    type = "provider.call"
    step: int
    call_id: str
    name: str
    arguments: Any = None


@dataclass(frozen=True)
class ProviderResult(Event):
    """What came of a tool that the model's provider has run."""

    type = "provider.result"
    step: int
    call_id: str
    name: str
    result: Any = None


@dataclass(frozen=True)
class Data(Event):
    type = "data"
    step: int
    name: str
    value: Any


_PLACE_AS_TEXT = f'"step_order":{json.dumps(holes.PLACE)}'


def _with_a_place(message: Mapping[str, Any], body: str) -> str:
    """Return the JSON of a message, whose place in its turn may be a hole too."""
    if message["step_order"] != holes.PLACE:
        return body
    # The first one, for it comes before all that anybody has said.
    return body.replace(_PLACE_AS_TEXT, f'"step_order":{holes.PLACE}', 1)


@dataclass(frozen=True)
class Message(Event):
    """A saved message; it replaces the step's draft."""

    type = "message"
    message: Mapping[str, Any]
    step: int | None = None

    def _with_its_holes(self, body: str) -> str:
        return _with_a_place(self.message, body)


@dataclass(frozen=True)
class Output(Event):
    type = "output"
    value: Any


@dataclass(frozen=True)
class UsageAdded(Event):
    """What one step used; a run's usage is the sum."""

    type = "usage"
    step: int
    usage: Mapping[str, Any]


# --- tool calls and approvals -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class ToolCall(Event):
    type = "tool.call"
    step: int
    call_id: str
    name: str
    arguments: Mapping[str, Any]
    effect: str
    needs_approval: bool


@dataclass(frozen=True)
class ToolProgress(Event):
    type = "tool.progress"
    call_id: str
    value: Any


@dataclass(frozen=True)
class ToolResult(Event):
    type = "tool.result"
    call_id: str
    name: str
    status: str
    result: Any = None
    error: str | None = None
    edited: Mapping[str, Any] | None = None
    code: str | None = None


@dataclass(frozen=True)
class ApprovalRequest(Event):
    type = "approval.request"
    approval: str
    call_id: str
    name: str
    arguments: Mapping[str, Any]
    digest: str
    expires_at: Later
    allowed: Sequence[str] = field(default_factory=tuple)
    because: str | None = None


@dataclass(frozen=True)
class ApprovalResponse(Event):
    type = "approval.response"
    approval: str
    call_id: str
    verdict: str
    by: str
    reason: str
    edited_arguments: Mapping[str, Any] | None = None


# --- the thread's own log ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ThreadMessage(Event):
    type = "thread.message"
    message: Mapping[str, Any]

    def _with_its_holes(self, body: str) -> str:
        return _with_a_place(self.message, body)


@dataclass(frozen=True)
class ThreadRun(Event):
    type = "thread.run"
    run: str
    status: str
    number: int
    agent: str


@dataclass(frozen=True)
class ThreadApproval(Event):
    type = "thread.approval"
    approval: str
    run: str
    call_id: str
    name: str
    status: str
    by: str


@dataclass(frozen=True)
class ThreadCall(Event):
    """Somebody said what became of a call that may have happened; its run may have ended long before."""

    type = "thread.call"
    run: str
    call_id: str
    name: str
    status: str
    by: str
