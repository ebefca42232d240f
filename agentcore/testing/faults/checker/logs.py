"""I2, I7 and I8 of a run's log: gapless, one writer at a time, one result a call, nothing after the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ....engine.snapshot import NOT_TAKEN
from ....states import StepKind, StepStatus, ToolCallStatus, WaitingReason
from .evidence import Dossier, Violation

DRAFTED = {
    "text.delta",
    "reasoning.delta",
    "output.delta",
    "source",
    "data",
    "file",
    "provider.call",
    "provider.result",
}
STEPS = {"step.started", "step.reset", "step.finished", "tool.progress", "tool.call", *DRAFTED}
UNDECIDED = ToolCallStatus.EFFECT_UNVERIFIED.value


def of_run(dossier: Dossier) -> Iterator[Violation]:
    """Read a log as the one writer must have written it, and compare it with the rows it implies."""
    yield from _positions(dossier)
    reader = _Reader(dossier)
    for event in dossier.events:
        yield from reader.read(event)
    yield from _end(dossier)
    yield from _projections(dossier, reader)


def _positions(dossier: Dossier) -> Iterator[Violation]:
    stored = [record.seq for record in dossier.records]
    if stored != list(range(len(stored))) or len(stored) != dossier.run.next_seq:
        seen = f"records {_spans(stored)}, where the run has allocated 0 to {dossier.run.next_seq - 1}"
        yield dossier.violates("I2", seen)
    for record, event in zip(dossier.records, dossier.events, strict=True):
        if event.get("seq") != record.seq:
            yield dossier.violates("I2", f"record {record.seq} says that it is {event.get('seq')}")


def _spans(numbers: list[int]) -> str:
    """Return numbers as spans: 0-3, 5, 7-9."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(f"{first}-{last}" if first != last else str(first) for first, last in spans) or "none"


@dataclass
class _Reader:
    """Where the one writer must be, judged by what it has written so far."""

    dossier: Dossier
    attempt: int = 0
    waiting: bool = False
    over: bool = False
    open: int | None = None
    open_kind: str = ""
    said: str = ""
    finished: list[int] = field(default_factory=list)
    starts: Counter[int] = field(default_factory=Counter)
    usages: Counter[int] = field(default_factory=Counter)
    results: dict[str, list[str]] = field(default_factory=dict)
    messages: set[str] = field(default_factory=set)
    texts: dict[int, str] = field(default_factory=dict)
    not_taken: str = ""

    def read(self, event: dict[str, Any]) -> Iterator[Violation]:
        """Take in the next event."""
        kind = str(event.get("type"))
        at = f"{kind} at {event.get('seq')}"
        if self.over:
            yield self.dossier.violates("I7", f"{at} comes after done")
        if self.waiting and (kind in STEPS or kind == "run.started"):
            yield self.dossier.violates("I2", f"{at} although the run waits")
        step = {"run": self._run, "step": self._step, "tool": self._call}.get(kind.split(".")[0])
        if kind in DRAFTED:
            yield from self._draft(event, at)
        elif kind == "usage":
            yield from self._usage(event, at)
        elif kind == "message":
            yield from self._message(event, at)
        elif kind == "done":
            self.over = True
            yield from self._closed(at, "I8", final=False)
        elif step is not None:
            yield from step(kind, event, at)

    def _run(self, kind: str, event: dict[str, Any], at: str) -> Iterator[Violation]:
        if (kind == "run.created") != (event.get("seq") == 0):
            yield self.dossier.violates("I2", f"{at}: a log begins with run.created, once")
        if kind == "run.started":
            if event.get("attempt") != self.attempt + 1:
                yield self.dossier.violates("I2", f"{at} is attempt {event.get('attempt')} after {self.attempt}")
            self.attempt = int(event.get("attempt") or 0)
            if self.open_kind == StepKind.TOOLS:
                self.open = None  # a round that died is no draft anybody shows, so nothing says it is void
        if kind in ("run.waiting", "run.released"):
            parked = WaitingReason.POISONED in event.get("reasons", ())  # by the sweep: its worker is dead
            handed_over = kind == "run.released" and self.open_kind == StepKind.TOOLS  # as one that died, see above
            if self.open is not None and not (parked or handed_over):
                yield self.dossier.violates("I2", f"{at} leaves step {self.open} open")
            self.waiting = kind == "run.waiting"
        if kind == "run.resumed":
            self.waiting = False

    def _step(self, kind: str, event: dict[str, Any], at: str) -> Iterator[Violation]:
        number, writer = int(event.get("step") or 0), event.get("attempt", self.attempt)
        if writer != self.attempt:
            yield self.dossier.violates("I2", f"{at} is of attempt {writer}, while {self.attempt} has the run")
        if kind == "step.started":
            yield from self._begin(number, event, at)
            return
        if number != self.open:
            done = "has finished" if number in self.finished else "is not open"
            yield self.dossier.violates("I2", f"{at}: step {number} {done}")
        if kind == "step.reset" and event.get("reason") in NOT_TAKEN:
            # The step finishes all the same, and what it said stands again where the next one only mends its output.
            self.said, self.not_taken = "", self.said or self.not_taken
            return
        if kind == "step.finished":
            self.finished.append(number)
            self.texts[number] = self.said
        self.open, self.said = None, ""

    def _begin(self, number: int, event: dict[str, Any], at: str) -> Iterator[Violation]:
        if self.open is not None:
            yield self.dossier.violates("I2", f"{at}: step {self.open} is still open")
        if number != len(self.finished) + 1:
            yield self.dossier.violates("I2", f"{at} is step {number} after {len(self.finished)} finished ones")
        self.open, self.open_kind, self.said = number, str(event.get("kind")), ""
        self.starts[number] += 1
        if self.open_kind == StepKind.MODEL:
            yield from self._closed(at, "I8", final=True)

    def _draft(self, event: dict[str, Any], at: str) -> Iterator[Violation]:
        if self.open != event.get("step") or self.open_kind != StepKind.MODEL:
            yield self.dossier.violates("I2", f"{at} is of step {event.get('step')}, which is not streaming")
        if event.get("type") == "text.delta":
            self.said += str(event.get("text"))

    def _usage(self, event: dict[str, Any], at: str) -> Iterator[Violation]:
        number = int(event.get("step") or 0)
        self.usages[number] += 1
        if self.usages[number] > self.starts[number]:
            yield self.dossier.violates("I2", f"{at} counts step {number} once more than it was started")

    def _message(self, event: dict[str, Any], at: str) -> Iterator[Violation]:
        message = event.get("message") or {}
        if message.get("id") in self.messages:
            yield self.dossier.violates("I2", f"{at} repeats message {message.get('id')}")
        self.messages.add(str(message.get("id")))
        number = event.get("step")
        said = self.said if number == self.open else self.texts.pop(number, None) if number else None
        kept = "".join(part.get("text", "") for part in message.get("parts", ()) if part.get("type") == "text")
        # A character cut in two by its deltas is whole in the message only.
        if said is not None and kept not in (said, said or self.not_taken) and "\ufffd" not in said + kept:
            yield self.dossier.violates(
                "I2", f"{at}: step {number} streamed {said[:60]!r} and is kept as {kept[:60]!r}"
            )

    def _call(self, kind: str, event: dict[str, Any], at: str) -> Iterator[Violation]:
        call_id = str(event.get("call_id"))
        if kind == "tool.call":
            if call_id in self.results:
                yield self.dossier.violates("I2", f"{at} records call {call_id} again")
            self.results.setdefault(call_id, [])
        elif call_id not in self.results:
            yield self.dossier.violates("I2", f"{at} is of call {call_id}, which nobody asked for")
        if kind == "tool.result":
            before = self.results.setdefault(call_id, [])
            if any(status != UNDECIDED for status in before):
                yield self.dossier.violates("I8", f"{at} is one more result of call {call_id}, which was {before[-1]}")
            before.append(str(event.get("status")))

    def _closed(self, at: str, invariant: str, *, final: bool) -> Iterator[Violation]:
        """Find the calls without a result: before a model is asked again it must be a final one."""
        for call_id, statuses in self.results.items():
            if not [status for status in statuses if status != UNDECIDED or not final]:
                yield self.dossier.violates(invariant, f"{at} although call {call_id} has no result")


def _end(dossier: Dossier) -> Iterator[Violation]:
    ends = [event for event in dossier.events if event.get("type") == "done"]
    if dossier.run.terminal and [end.get("status") for end in ends] != [dossier.run.status]:
        said = [end.get("status") for end in ends]
        yield dossier.violates("I7", f"the run is {dossier.run.status}, and its log ends with done {said}")
    if not dossier.run.terminal and ends:
        yield dossier.violates("I7", f"the log says done, and the run is {dossier.run.status}")


def _projections(dossier: Dossier, reader: _Reader) -> Iterator[Violation]:
    """Find rows that no event caused, and events that left no row."""
    finished = [step.number for step in dossier.steps if step.status == StepStatus.FINISHED]
    kept = {str(message.pk) for message in dossier.messages if message.author_kind in ("agent", "tool")}
    pairs = {
        "finished steps": (sorted(reader.finished), sorted(finished)),
        "messages": (sorted(reader.messages), sorted(kept)),
        "tool calls": (sorted(reader.results), sorted(call.call_id for call in dossier.calls)),
        "attempts": ([reader.attempt], [dossier.run.attempt]),
    }
    for what, (logged, stored) in pairs.items():
        if logged != stored:
            yield dossier.violates("I2", f"{what}: the log has {logged}, the rows have {stored}")
