"""The statuses, and the state machines of runs, steps, tool calls and approvals, as plain tables.

Every transition is one conditional UPDATE whose row count is checked; the journal
refuses one that is not in its table.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from .exceptions import IllegalMove


class RunStatus(StrEnum):
    """Where a run stands; terminal statuses never reopen."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def terminal(self) -> bool:
        """Whether no transition leaves this status."""
        return not RUN_TRANSITIONS[self]


class ToolCallStatus(StrEnum):
    """Where a recorded tool call stands."""

    PENDING = "pending"
    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DENIED = "denied"
    CANCELED = "canceled"
    EFFECT_UNVERIFIED = "effect_unverified"


class ApprovalStatus(StrEnum):
    """What was decided; `consumed_at` says whether it was used."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"
    CANCELED = "canceled"


class MessageStatus(StrEnum):
    """Whether a message is finished, and how."""

    PENDING = "pending"
    STREAMING = "streaming"
    COMPLETE = "complete"
    FAILED = "failed"
    CANCELED = "canceled"


class StepStatus(StrEnum):
    """A started step may run again; a finished one never does."""

    STARTED = "started"
    FINISHED = "finished"
    FAILED = "failed"


class StepKind(StrEnum):
    """One model call, or one round of tool calls."""

    MODEL = "model"
    TOOLS = "tools"


class WaitingReason(StrEnum):
    """Why a run waits; the set is derived from its open rows, never stored."""

    APPROVAL = "approval"
    EFFECT_UNVERIFIED = "effect_unverified"
    EXTERNAL_RESULT = "external_result"
    SUB_RUN = "sub_run"
    POISONED = "poisoned"


RUN_TRANSITIONS: dict[RunStatus, frozenset[RunStatus]] = {
    RunStatus.PENDING: frozenset({RunStatus.RUNNING, RunStatus.FAILED, RunStatus.CANCELED}),
    RunStatus.RUNNING: frozenset(
        {
            RunStatus.RUNNING,
            RunStatus.PENDING,
            RunStatus.WAITING,
            RunStatus.SUCCEEDED,
            RunStatus.FAILED,
            RunStatus.CANCELED,
        }
    ),
    RunStatus.WAITING: frozenset({RunStatus.PENDING, RunStatus.FAILED, RunStatus.CANCELED}),
    RunStatus.SUCCEEDED: frozenset(),
    RunStatus.FAILED: frozenset(),
    RunStatus.CANCELED: frozenset(),
}

TOOL_CALL_TRANSITIONS: dict[ToolCallStatus, frozenset[ToolCallStatus]] = {
    # Not known to have happened: it ran before, was interrupted, and cannot be run again as it was recorded.
    ToolCallStatus.PENDING: frozenset(
        {
            ToolCallStatus.RUNNING,
            ToolCallStatus.WAITING,
            ToolCallStatus.FAILED,
            ToolCallStatus.DENIED,
            ToolCallStatus.CANCELED,
            ToolCallStatus.EFFECT_UNVERIFIED,
        }
    ),
    ToolCallStatus.WAITING: frozenset(
        {ToolCallStatus.PENDING, ToolCallStatus.DENIED, ToolCallStatus.FAILED, ToolCallStatus.CANCELED}
    ),
    ToolCallStatus.RUNNING: frozenset(
        {
            ToolCallStatus.PENDING,
            ToolCallStatus.SUCCEEDED,
            ToolCallStatus.FAILED,
            ToolCallStatus.CANCELED,
            ToolCallStatus.EFFECT_UNVERIFIED,
        }
    ),
    ToolCallStatus.EFFECT_UNVERIFIED: frozenset(
        {ToolCallStatus.PENDING, ToolCallStatus.SUCCEEDED, ToolCallStatus.FAILED, ToolCallStatus.CANCELED}
    ),
    ToolCallStatus.SUCCEEDED: frozenset(),
    ToolCallStatus.FAILED: frozenset(),
    ToolCallStatus.DENIED: frozenset(),
    ToolCallStatus.CANCELED: frozenset(),
}

APPROVAL_TRANSITIONS: dict[ApprovalStatus, frozenset[ApprovalStatus]] = {
    ApprovalStatus.PENDING: frozenset(
        {ApprovalStatus.APPROVED, ApprovalStatus.DENIED, ApprovalStatus.EXPIRED, ApprovalStatus.CANCELED}
    ),
    # Voided before its call ran: the tool is declared otherwise now, or its decider may not decide any more.
    ApprovalStatus.APPROVED: frozenset({ApprovalStatus.CANCELED}),
    ApprovalStatus.DENIED: frozenset(),
    ApprovalStatus.EXPIRED: frozenset(),
    ApprovalStatus.CANCELED: frozenset(),
}

STEP_TRANSITIONS: dict[StepStatus, frozenset[StepStatus]] = {
    StepStatus.STARTED: frozenset({StepStatus.FINISHED, StepStatus.FAILED}),
    StepStatus.FINISHED: frozenset(),
    StepStatus.FAILED: frozenset(),
}

LIVE_RUN_STATUSES = tuple(status for status in RunStatus if not status.terminal)
TERMINAL_RUN_STATUSES = tuple(status for status in RunStatus if status.terminal)
OPEN_CALL_STATUSES = tuple(status for status, targets in TOOL_CALL_TRANSITIONS.items() if targets)
BLOCKED_CALL_STATUSES = (ToolCallStatus.WAITING, ToolCallStatus.EFFECT_UNVERIFIED)
CLOSED_CALL_STATUSES = tuple(status for status, targets in TOOL_CALL_TRANSITIONS.items() if not targets)

WAITS_FOR = {
    ToolCallStatus.WAITING: WaitingReason.APPROVAL,
    ToolCallStatus.EFFECT_UNVERIFIED: WaitingReason.EFFECT_UNVERIFIED,
}


_MACHINES: dict[type[StrEnum], dict[Any, frozenset[Any]]] = {
    RunStatus: RUN_TRANSITIONS,
    ToolCallStatus: TOOL_CALL_TRANSITIONS,
    ApprovalStatus: APPROVAL_TRANSITIONS,
    StepStatus: STEP_TRANSITIONS,
}


def check_move(source: StrEnum, target: str) -> None:
    """Raise `IllegalMove` where the machine of `source` has no way from it to `target`."""
    machine: dict[Any, frozenset[Any]] = _MACHINES[type(source)]
    if target != source and target not in machine[source]:
        raise IllegalMove(f"{type(source).__name__}: there is no way from {source} to {target}.")
