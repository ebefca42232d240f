"""The state machines: what may follow what, and what never reopens."""

from __future__ import annotations

from enum import StrEnum
from itertools import product

import pytest

from agentcore import states
from agentcore.exceptions import IllegalMove
from agentcore.states import (
    APPROVAL_TRANSITIONS,
    RUN_TRANSITIONS,
    TOOL_CALL_TRANSITIONS,
    ApprovalStatus,
    RunStatus,
    ToolCallStatus,
)

pytestmark = pytest.mark.once

# The table of the design, written down a second time: a slip in one is a difference between the two.
RUN_MOVES = {
    ("pending", "running"),
    ("running", "running"),
    ("running", "pending"),
    ("running", "waiting"),
    ("waiting", "pending"),
    *product(("running", "pending", "waiting"), ("failed", "canceled")),
    ("running", "succeeded"),
}


@pytest.mark.covers("dj:MOD-7")
@pytest.mark.parametrize(("source", "target"), list(product(RunStatus, RunStatus)))
def test_a_run_moves_as_the_design_says_and_not_otherwise(source: RunStatus, target: RunStatus) -> None:
    assert (target in RUN_TRANSITIONS[source]) == ((source.value, target.value) in RUN_MOVES)


@pytest.mark.parametrize("machine", [RUN_TRANSITIONS, TOOL_CALL_TRANSITIONS, APPROVAL_TRANSITIONS])
def test_a_move_that_is_in_no_table_is_refused(machine: dict[StrEnum, frozenset[StrEnum]]) -> None:
    for source, target in product(machine, machine):
        if target == source or target in machine[source]:
            states.check_move(source, target)
        else:
            with pytest.raises(IllegalMove):
                states.check_move(source, target)


@pytest.mark.parametrize(
    ("machine", "statuses"),
    [(RUN_TRANSITIONS, RunStatus), (TOOL_CALL_TRANSITIONS, ToolCallStatus), (APPROVAL_TRANSITIONS, ApprovalStatus)],
)
def test_every_status_has_a_row_and_can_be_left_towards_an_end(
    machine: dict[StrEnum, frozenset[StrEnum]], statuses: type[StrEnum]
) -> None:
    assert set(machine) == set(statuses)
    ends = {status for status, targets in machine.items() if not targets}
    reaching = set(ends)
    while more := {status for status, targets in machine.items() if targets & reaching} - reaching:
        reaching |= more
    assert ends and reaching == set(statuses)


def test_a_run_has_ended_exactly_when_nothing_can_follow() -> None:
    assert {status for status in RunStatus if status.terminal} == {"succeeded", "failed", "canceled"}
    assert set(states.LIVE_RUN_STATUSES) | set(states.TERMINAL_RUN_STATUSES) == set(RunStatus)
    assert not set(states.LIVE_RUN_STATUSES) & set(states.TERMINAL_RUN_STATUSES)


def test_a_decision_is_taken_once_and_can_only_be_voided() -> None:
    assert {status: targets for status, targets in APPROVAL_TRANSITIONS.items() if targets} == {
        ApprovalStatus.PENDING: set(ApprovalStatus) - {ApprovalStatus.PENDING},
        ApprovalStatus.APPROVED: {ApprovalStatus.CANCELED},
    }


def test_a_call_that_may_have_happened_never_runs_again_on_its_own() -> None:
    # From effect_unverified the only way back to running is through pending, which a person chooses.
    assert ToolCallStatus.RUNNING not in TOOL_CALL_TRANSITIONS[ToolCallStatus.EFFECT_UNVERIFIED]
    assert ToolCallStatus.EFFECT_UNVERIFIED in states.BLOCKED_CALL_STATUSES


def test_every_status_a_run_can_wait_for_has_a_reason() -> None:
    assert set(states.WAITS_FOR) == set(states.BLOCKED_CALL_STATUSES)
    assert set(states.BLOCKED_CALL_STATUSES) <= set(states.OPEN_CALL_STATUSES)
