"""What the checker judges by: the rows of each run, and what others have witnessed."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from ....declaration.model import ModelRequest
from ....models import Approval, Message, Run, Step, ToolCall
from ....streams import log
from ....values.parts import TextPart

PAGE = 1000


@dataclass(frozen=True)
class Violation:
    """One invariant that does not hold of one run (empty where it is of none), and what was seen."""

    invariant: str
    run: str
    seen: str

    def __str__(self) -> str:
        return f"{self.invariant} {self.run or '-'}: {self.seen}"


class Effect(Protocol):
    """One call that really happened, as the world noted it."""

    @property
    def run_id(self) -> str:
        """The run it happened for."""

    @property
    def call_id(self) -> str:
        """The call, as the tool was told it."""

    @property
    def attempt(self) -> int:
        """The attempt that did it."""

    @property
    def arguments(self) -> Mapping[str, Any] | None:
        """What the body was given, as JSON has it; None where the world has not noted it."""


@dataclass(frozen=True)
class Asked:
    """One model call as the model has seen it: in which run, attempt and step, and what agents had said before.

    `whole` says that the thread's history was surely not cut: `recent_messages` cuts whole turns, so
    a history that was cut may be shorter than that.
    """

    run: UUID
    attempt: int
    step: int
    said: Collection[str]
    whole: bool = True

    @classmethod
    def of(cls, request: ModelRequest, *, whole: bool = True) -> Asked:
        """Return what a request of a model tells, such as one of `ScriptedModel.requests`."""
        parts = (part for message in request.messages if message.author == "agent" for part in message.parts)
        said = tuple(part.text for part in parts if isinstance(part, TextPart))
        return cls(request.run_id, request.attempt, request.step, said, whole)


@dataclass(frozen=True)
class History:
    """The events of one run as one client received them after a position, in that order.

    `to_the_end` says that the client was given the time to see everything.
    """

    client: str
    run: UUID
    events: Sequence[Mapping[str, Any]]
    after: int = -1
    to_the_end: bool = True


@dataclass(frozen=True)
class Answer:
    """What a client was answered to a start under a key; `run` is None where it never learned."""

    thread: UUID
    agent: str
    key: str
    run: UUID | None


@dataclass(frozen=True)
class Evidence:
    """What the rows cannot tell; leave out what nobody has witnessed.

    `effects` is the world's own log and `acting_tools` are the tools that write it.
    `requests` are what models were asked, `deleted` the threads that somebody has
    deleted. `is_alive` tells of a worker's name whether its process runs. `canaries` are
    secrets that may stand in no event and in none of the `texts` (logs, by name).
    `calm` is false while runs may still be under way.
    """

    answers: Sequence[Answer] = ()
    effects: Sequence[Effect] | None = None
    acting_tools: Collection[str] = ()
    requests: Sequence[Asked] = ()
    deleted: Collection[UUID] = ()
    histories: Sequence[History] = ()
    is_alive: Callable[[str], bool] | None = None
    canaries: Collection[str] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    calm: bool = True


@dataclass(frozen=True)
class Dossier:
    """Everything the database says about one run."""

    run: Run
    records: Sequence[log.Entry]
    steps: Sequence[Step] = ()
    calls: Sequence[ToolCall] = ()
    approvals: Sequence[Approval] = ()
    messages: Sequence[Message] = ()
    thread_events: Sequence[Mapping[str, Any]] = ()
    """The thread's own log, decoded."""
    repeats: Mapping[str, int] = field(default_factory=dict)
    """How often a person has said of a call that it may run again."""

    @property
    def events(self) -> list[dict[str, Any]]:
        """The log, decoded; a record that cannot be read is an event without a type."""
        return [_decode(record.data) for record in self.records]

    def violates(self, invariant: str, seen: str) -> Violation:
        """Return that this run violates an invariant."""
        return Violation(invariant, str(self.run.pk), seen)


def load(runs: Iterable[UUID] | None) -> list[Dossier]:
    """Return a dossier for each run, by number within its thread."""
    rows = Run.objects.order_by("thread", "number")
    chosen = list(rows if runs is None else rows.filter(pk__in=list(runs)))
    logs: dict[UUID, list[dict[str, Any]]] = {}
    return [_load(run, logs) for run in chosen]


def _load(run: Run, logs: dict[UUID, list[dict[str, Any]]]) -> Dossier:
    thread_stream = run.thread.stream_id
    if thread_stream not in logs:
        logs[thread_stream] = [_decode(entry.data) for entry in read_all(thread_stream)]
    return Dossier(
        run=run,
        records=read_all(run.stream_id),
        steps=list(Step.objects.filter(run=run).order_by("number", "started_at")),
        calls=list(ToolCall.objects.filter(run=run).order_by("created_at", "position")),
        approvals=list(Approval.objects.filter(run=run).order_by("requested_at")),
        messages=list(Message.objects.filter(run=run).order_by("order", "step_order")),
        thread_events=logs[thread_stream],
        repeats=_repeats(run, logs[thread_stream]),
    )


def read_all(stream_id: UUID) -> list[log.Entry]:
    """Return a whole log."""
    entries: list[log.Entry] = []
    while page := log.read(stream_id, entries[-1].seq if entries else -1, PAGE):
        entries += page
    return entries


def _repeats(run: Run, thread_log: Sequence[Mapping[str, Any]]) -> Counter[str]:
    found: Counter[str] = Counter()
    for event in thread_log:
        mine = event.get("type") == "thread.call" and event.get("run") == str(run.pk)
        if mine and event.get("status") == "pending":
            found[str(event.get("call_id"))] += 1
    return found


def _decode(data: bytes) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def by_call(effects: Sequence[Effect], run: Run) -> dict[str, list[Effect]]:
    """Return, for each call of a run that had an effect, what happened."""
    found: dict[str, list[Effect]] = defaultdict(list)
    for effect in effects:
        if str(effect.run_id) == str(run.pk):
            found[effect.call_id].append(effect)
    return found
