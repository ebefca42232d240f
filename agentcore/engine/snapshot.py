"""What a run's rows say, read once at the claim: all that the next decision depends on.

The worker that holds the claim is the only one that takes steps, so it carries the
snapshot on from step to step; it reads again where somebody else has answered a call.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import reduce
from typing import Any
from uuid import UUID

from django.db.models import F, QuerySet

from ..database.compiled import Compiled
from ..database.dialect import DbNow
from ..declaration.context import ContextBlock, RunContext
from ..models import Approval, Message, Run, Step, ToolCall
from ..states import BLOCKED_CALL_STATUSES, OPEN_CALL_STATUSES, RunStatus, StepKind, StepStatus, ToolCallStatus
from ..values import jsontext
from ..values.usage import Usage

OUTPUT_INVALID = "output_invalid"
ANSWER_NOT_ACCEPTED = "answer_not_accepted"
NOT_TAKEN = (OUTPUT_INVALID, ANSWER_NOT_ACCEPTED)
"""What a finished step's code says of an answer that the model was asked to give again."""
WORKER_LOST = "worker_lost"


@dataclass(frozen=True)
class Asked:
    """How many calls a model has asked for, and how often for the last one in a row, with the same arguments."""

    count: int = 0
    repeats: int = 0
    last: str = ""

    def and_then(self, calls: Iterable[tuple[str, str]]) -> Asked:
        """Return what it is after more calls, each a name and its arguments."""
        asked = self
        for name, arguments in calls:
            call = jsontext.digest(name, arguments)
            asked = Asked(asked.count + 1, asked.repeats + 1 if call == asked.last else 1, call)
        return asked


@dataclass(frozen=True)
class Snapshot:
    """A run between two steps; `history` is what its thread has said, once somebody has asked for it.

    For limits: the model calls that have ended, those whose workers were lost meanwhile,
    the largest usage known, and, once somebody has asked for it, what calls were asked for.
    `thread_seq` is where the thread's log ended before anything else was read: while it
    ends there, nobody has said more in the thread.
    """

    run: Run
    now: datetime
    calls: tuple[ToolCall, ...] = ()
    approvals: Mapping[UUID, Approval] = field(default_factory=dict)
    last_model_step: Step | None = None
    open_step: Step | None = None
    failed_tries: int = 0
    answers_not_taken: int = 0
    steps_finished: int = 0
    model_calls: int = 0
    lost_calls: int = 0
    largest: Usage = field(default_factory=Usage)
    asked: Asked | None = None
    context: tuple[ContextBlock, ...] | None = None
    history: tuple[Message, ...] | None = None
    thread_seq: int | None = None
    retry_in: float = 0.0
    read_at: float = field(default_factory=time.monotonic)

    @property
    def next_step(self) -> int:
        """The number of the step to run next; a step that failed is tried again under its own number."""
        return self.steps_finished + 1

    @property
    def about(self) -> RunContext:
        """What the application's functions may look at."""
        run = self.run
        prompt = run.prompt.text if run.prompt else ""
        return RunContext(run.pk, run.thread_id, run.agent, run.user, prompt, run.metadata, self.next_step, run.attempt)

    @property
    def runnable(self) -> tuple[ToolCall, ...]:
        """The calls that may start now."""
        return tuple(call for call in self.calls if call.status == ToolCallStatus.PENDING)

    @property
    def blocked(self) -> tuple[ToolCall, ...]:
        """The calls that wait for a person."""
        return tuple(call for call in self.calls if call.status in BLOCKED_CALL_STATUSES)

    @property
    def lapsed(self) -> bool:
        """Whether a worker has lost it, and nobody has it yet."""
        expires = self.run.lease_expires_at
        return self.run.status == RunStatus.RUNNING and expires is not None and expires < self.now

    @property
    def left_open(self) -> bool:
        """Whether an earlier attempt ended in the middle of a step."""
        return self.open_step is not None or any(call.status == ToolCallStatus.RUNNING for call in self.calls)

    @property
    def claimable(self) -> bool:
        """Whether a look at its queue and its due time may find it runnable."""
        return self.run.status == RunStatus.PENDING or self.lapsed

    @property
    def suspect(self) -> bool:
        """Whether it has cost a worker since its last committed step, and is to be driven alone."""
        return self.lapsed or (self.run.status == RunStatus.PENDING and self.run.alone)

    @property
    def seconds_running(self) -> float:
        """How long it has been running, in all its attempts; what it waited for between them does not count."""
        since, lease = self.run.running_since, self.run.lease_expires_at
        until = min(self.now, lease) if lease else self.now  # after a lease that ran out nobody was at it
        before = self.run.running_seconds + (max((until - since).total_seconds(), 0.0) if since else 0.0)
        return before + time.monotonic() - self.read_at

    def with_run(self, **columns: Any) -> Snapshot:
        """Return the snapshot with other values in some columns of its run; the row that was read stays as it is."""
        run = copy.copy(self.run)
        for name, value in columns.items():
            setattr(run, name, value)
        return replace(self, run=run)

    def after_model_step(
        self, step: Step, asked: Sequence[ToolCall], still_open: Sequence[ToolCall], said: Sequence[Message]
    ) -> Snapshot:
        """Return the snapshot after a finished model step, which has asked for calls, some still open, and `said`."""
        known = None if self.asked is None else self.asked.and_then((call.name, call.arguments) for call in asked)
        return self._after(
            said,
            calls=tuple(call for call in still_open if call.status in OPEN_CALL_STATUSES),
            last_model_step=step,
            model_calls=self.model_calls + 1,
            largest=_larger(self.largest, Usage.from_json(step.usage)),
            asked=known,
            failed_tries=0,
            answers_not_taken=self.answers_not_taken + (step.error_code in NOT_TAKEN),
        )

    def after_tool_round(self, still_open: Sequence[ToolCall], said: Sequence[Message]) -> Snapshot:
        """Return the snapshot after a finished round of tool calls."""
        return self._after(said, calls=tuple(still_open), approvals={})

    def after_failure(self) -> Snapshot:
        """Return the snapshot after a model call that failed; the step is still due."""
        return replace(self, failed_tries=self.failed_tries + 1)

    def _after(self, said: Sequence[Message], **changed: Any) -> Snapshot:
        history = None if self.history is None else (*self.history, *said)
        return replace(self, steps_finished=self.steps_finished + 1, history=history, retry_in=0.0, **changed)


def load_many(run_ids: Sequence[UUID]) -> dict[UUID, Snapshot]:
    """Read runs and their open rows; user code is never replayed. A run that is gone is left out."""
    rows: list[Any] = _runs.read(run_ids)
    found = [_with_rows(run) if _has_rows(run) else Snapshot(run, run.db_now, asked=Asked()) for run in rows]
    return {state.run.pk: replace(state, thread_seq=run.thread_seq) for run, state in zip(rows, found, strict=True)}


def _ask(run_ids: Sequence[UUID]) -> QuerySet[Run]:
    read = Run.objects.select_related("user", "thread", "prompt").filter(pk__in=run_ids)
    return read.annotate(db_now=DbNow(), thread_seq=F("thread__stream__next_seq"))


_runs = Compiled(_ask)


def load(run_id: UUID) -> Snapshot:
    """Read one run; raises `Run.DoesNotExist`."""
    found = load_many([run_id]).get(run_id)
    if found is None:
        raise Run.DoesNotExist
    return found


def calls_asked(run: Run) -> Asked:
    """Read what calls a run's model has asked for, in all its steps."""
    calls = ToolCall.objects.filter(run=run).order_by("pk").values_list("name", "arguments")
    return Asked().and_then(calls.iterator(chunk_size=500))


def _has_rows(run: Run) -> bool:
    """Whether there are steps worth reading: somebody has taken one, and somebody may take another."""
    return run.attempt > 0 and not run.terminal


def _with_rows(run: Any) -> Snapshot:
    """Read the steps, calls and approvals of a run that somebody has driven before."""
    steps: list[Step] = list(Step.objects.filter(run=run).order_by("number", "started_at", "pk"))
    finished = [step for step in steps if step.status == StepStatus.FINISHED]
    models = [step for step in finished if step.kind == StepKind.MODEL]
    failed = [step for step in steps if step.status == StepStatus.FAILED and step.kind == StepKind.MODEL]
    calls = tuple(ToolCall.objects.filter(run=run, status__in=OPEN_CALL_STATUSES).order_by("step_id", "position"))
    asked = Approval.objects.filter(tool_call__in=calls).select_related("decided_by") if calls else ()
    return Snapshot(
        run,
        run.db_now,
        calls=calls,
        approvals={approval.tool_call_id: approval for approval in sorted(asked, key=lambda item: item.pk)},
        last_model_step=models[-1] if models else None,
        open_step=next((step for step in steps if step.status == StepStatus.STARTED), None),
        failed_tries=sum(step.number > len(finished) and _is_a_try(step) for step in failed),
        answers_not_taken=sum(step.error_code in NOT_TAKEN for step in models),
        steps_finished=len(finished),
        model_calls=len(models),
        lost_calls=sum(step.error_code in NO_FAILURE for step in failed),
        largest=reduce(_larger, (Usage.from_json(step.usage) for step in models), Usage()),
        context=_context(models),
    )


def _is_a_try(step: Step) -> bool:
    """Whether a failed step counts as one try: its model has failed, and no other was asked in its place."""
    return step.error_code not in NO_FAILURE and not step.passed_on


def _larger(one: Usage, other: Usage) -> Usage:
    return max(one, other, key=lambda usage: usage.total_tokens)


DRAINED = "drained"
NO_FAILURE = (WORKER_LOST, DRAINED)
"""What a failed step's code says that is no failure of its model."""


def _context(models: list[Step]) -> tuple[ContextBlock, ...] | None:
    """Return the blocks the first model step was given; later steps get the same, never a new retrieval."""
    return tuple(ContextBlock.from_json(block) for block in models[0].context) if models else None
