"""What the JSON API takes and gives."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal, Self
from uuid import UUID

from ninja import Schema
from pydantic import ConfigDict, Field

from ..access import get_policy
from ..models import Approval, Message, Run, Thread, ToolCall


class Input(Schema):
    """A request body; a field it does not know is an error, not ignored."""

    model_config = ConfigDict(extra="forbid")


class SendIn(Input):
    """A message to an agent; `key` makes repeating the request harmless."""

    agent: str
    text: str
    key: str = ""


class CancelIn(Input):
    """Why a run is canceled."""

    reason: str = ""


class RetryIn(Input):
    """Nothing: a retry takes over what the old run was started with."""


class DecisionIn(Input):
    """One decision; `digest` is the one that was shown."""

    approval: UUID
    verdict: Literal["approve", "deny"]
    digest: str
    reason: str = ""
    edited_arguments: dict[str, Any] | None = None


class DecideIn(Input):
    """Decisions that are taken together or not at all."""

    decisions: list[DecisionIn] = Field(min_length=1, max_length=1000)


class ThreadOut(Schema):
    """A thread; a page that reads it first may follow the thread's log from after `seq`."""

    id: UUID
    title: str
    seq: int
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, thread: Thread) -> Self:
        """Return what the API shows of a thread."""
        return cls(
            id=thread.pk,
            title=thread.title,
            seq=thread.stream.next_seq - 1,
            created_at=thread.created_at,
            updated_at=thread.updated_at,
        )


class MessageOut(Schema):
    """A message, whole; `key` is what its sender sent it with, `text` its text parts together."""

    id: UUID
    run: UUID | None
    order: int
    step_order: int
    author: dict[str, str]
    status: str
    finish_reason: str | None = None
    parts: list[dict[str, Any]]
    text: str
    key: str = ""
    created_at: datetime

    @classmethod
    def of(cls, message: Message) -> Self:
        """Return what the API shows of a message."""
        return cls(**message.to_json(), created_at=message.created_at)


class ErrorOut(Schema):
    """Why a run failed; `retry_after` is in seconds after its end, where the model's provider named a time."""

    code: str
    message: str
    retry_after: float | None = None


class ApprovalOut(Schema):
    """An approval, with the exact arguments it binds; `because` is why a guard has a person asked."""

    id: UUID
    run: UUID
    thread: UUID
    tool: str
    call_id: str
    arguments: dict[str, Any]
    edited_arguments: dict[str, Any] | None
    digest: str
    allowed: list[str]
    because: str
    status: str
    requested_at: datetime
    expires_at: datetime
    decided_at: datetime | None
    decided_by: str
    reason: str

    @classmethod
    def of(cls, approval: Approval) -> Self:
        """Return what the API shows of an approval; its call and run must be loaded."""
        return cls(
            id=approval.pk,
            run=approval.run_id,
            thread=approval.run.thread_id,
            tool=approval.tool_call.name,
            call_id=approval.tool_call.call_id,
            arguments=approval.arguments_json,
            edited_arguments=approval.edited_arguments_json,
            digest=approval.digest,
            allowed=approval.allowed,
            because=approval.because,
            status=approval.status,
            requested_at=approval.requested_at,
            expires_at=approval.expires_at,
            decided_at=approval.decided_at,
            decided_by=approval.decided_by_name,
            reason=approval.reason,
        )


class NoteOut(Schema):
    """Something to know about a run that is no error."""

    code: str
    message: str


class CallOut(Schema):
    """Where a tool call stands; what it was given and what it returned stand in the messages.

    `code` is that of the guard which denied it. `question` is for whoever may say whether it took effect, and empty
    for everybody else.
    """

    call_id: str
    name: str
    status: str
    error: str
    code: str
    question: str

    @classmethod
    def of(cls, call: ToolCall, user: Any) -> Self:
        """Return what the API shows `user` of a call beside its messages; its run must be loaded."""
        question = call.question
        if question and not get_policy().may_resolve(user, call):
            question = ""
        return cls(
            call_id=call.call_id,
            name=call.name,
            status=call.status,
            error=call.error,
            code=call.error_code,
            question=question,
        )


class RunOut(Schema):
    """A run: `order` is its turn, `prompt` the message that opened it; its log goes up to `seq`."""

    id: UUID
    thread: UUID
    number: int
    order: int
    seq: int
    prompt: UUID | None
    retry_of: UUID | None
    agent: str
    agent_version: str
    status: str
    waiting_for: list[str]
    finish_reason: str | None
    error: ErrorOut | None
    output: Any
    usage: dict[str, Any]
    notes: list[NoteOut]
    attempt: int
    created_at: datetime
    started_at: datetime | None
    available_at: datetime | None
    finished_at: datetime | None
    messages: list[UUID]
    calls: list[CallOut]
    approvals: list[ApprovalOut]

    @classmethod
    def of(cls, run: Run, user: Any) -> Self:
        """Return what the API shows `user` of a run."""
        return cls.all([run], user)[0]

    @classmethod
    def all(cls, runs: Iterable[Run], user: Any) -> list[Self]:
        """Return what the API shows `user` of runs, in a constant number of queries."""
        listed = list(runs)
        by_id = {run.pk: run for run in listed}
        waiting = Run.objects.waiting_reasons_of(listed)
        said: dict[UUID, list[UUID]] = {run.pk: [] for run in listed}
        for run_id, message_id in Message.objects.filter(run__in=listed).in_order().values_list("run_id", "pk"):
            said[run_id].append(message_id)
        calls: dict[UUID, list[CallOut]] = {run.pk: [] for run in listed}
        shown = ToolCall.objects.filter(run__in=listed).only(
            "run", "call_id", "name", "status", "error", "error_code", "effect", "worker"
        )
        for call in shown.order_by("created_at", "position"):
            call.run = by_id[call.run_id]  # the policy may ask for it
            calls[call.run_id].append(CallOut.of(call, user))
        approvals: dict[UUID, list[ApprovalOut]] = {run.pk: [] for run in listed}
        rows = Approval.objects.filter(run__in=listed).select_related("tool_call", "run")
        for row in rows.order_by("requested_at", "pk"):
            approvals[row.run_id].append(ApprovalOut.of(row))
        parts = ({"messages": said[run.pk], "calls": calls[run.pk], "approvals": approvals[run.pk]} for run in listed)
        return [cls._one(run, waiting[run.pk], found) for run, found in zip(listed, parts, strict=True)]

    @classmethod
    def _one(cls, run: Run, waiting: list[str], found: dict[str, Any]) -> Self:
        return cls(
            id=run.pk,
            thread=run.thread_id,
            number=run.number,
            order=run.order,
            seq=run.next_seq - 1,
            prompt=run.prompt_id,
            retry_of=run.retry_of_id,
            agent=run.agent,
            agent_version=run.agent_version,
            status=run.status,
            waiting_for=waiting,
            finish_reason=run.finish_reason or None,
            error=_error(run),
            output=run.output,
            usage=run.used.to_json(),
            notes=[NoteOut(code=code, message=message) for code, message in run.shown_notes().items()],
            attempt=run.attempt,
            created_at=run.created_at,
            started_at=run.started_at,
            available_at=run.available_at,
            finished_at=run.finished_at,
            **found,
        )


def _error(run: Run) -> ErrorOut | None:
    if not run.error_code:
        return None
    return ErrorOut(code=run.error_code, message=run.error_message, retry_after=run.retry_after)


class MessagesOut(Schema):
    """A page of messages, oldest first, with their runs; `before` asks for the next older page."""

    messages: list[MessageOut]
    runs: list[RunOut]
    before: str | None


class RunsOut(Schema):
    """Runs, newest first."""

    runs: list[RunOut]


class ApprovalsOut(Schema):
    """Approvals, oldest first."""

    approvals: list[ApprovalOut]


class EventsOut(Schema):
    """A page of a run's log; read on with `after=next_after` until `done`."""

    events: list[dict[str, Any]]
    next_after: int
    done: bool
