"""Every change of a status is one conditional update: it happens from the statuses the tables name, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from django.contrib.auth.models import AbstractUser
from django.db import transaction
from django.utils import timezone

from agentcore import SYSTEM, Agent, tool
from agentcore.engine import transitions
from agentcore.engine.steps import tools
from agentcore.exceptions import AgentcoreError, LeaseLost
from agentcore.journal import fence, write
from agentcore.journal.commit import Claim, Commit, Move, Moved
from agentcore.models import Approval, Run, Thread, ToolCall
from agentcore.services import approvals, runs
from agentcore.services.sweep import sweep
from agentcore.states import RUN_TRANSITIONS, TOOL_CALL_TRANSITIONS, ApprovalStatus, RunStatus, ToolCallStatus
from agentcore.streams import log
from agentcore.testing import ScriptedModel, Turn, run_until_idle
from agentcore.values.clock import NOW
from tests.integration import room

pytestmark = pytest.mark.covers("dj:MOD-7")


ATTEMPT = 3


@tool(needs_approval=True)
def pay(cents: int) -> str:
    """Pay somebody."""
    return f"paid {cents}"


@pytest.fixture
def agent() -> Agent:
    """An agent that asks once."""
    return Agent(name="test", model=ScriptedModel([Turn(calls=[("pay", {"cents": 5})])]), tools=[pay])


@pytest.fixture
def run(agent: Agent, user: AbstractUser) -> Run:
    """A run that waits for an approval."""
    thread = agent.threads.create(user=user)
    return run_until_idle(agent.runs.send(thread, "Pay", user=user))


def put(run: Run, status: RunStatus, *, lease: float = 60) -> Claim:
    """Put a run into a status as if it had come there, and return the claim its last worker holds."""
    now = timezone.now()
    Run.objects.filter(pk=run.pk).update(
        status=status,
        attempt=ATTEMPT,
        lease_expires_at=now + timedelta(seconds=lease) if status is RunStatus.RUNNING else None,
        finished_at=now if status.terminal else None,
        available_at=None,
    )
    thread = Thread.objects.get(pk=run.thread_id)
    return Claim(run.pk, thread.pk, run.stream_id, thread.stream_id, run.number, run.agent, ATTEMPT)


def row(model: type[Any], pk: Any) -> dict[str, Any]:
    found: dict[str, Any] = model.objects.filter(pk=pk).values().get()
    return found


def size(run: Run) -> int:
    return len(log.read(run.stream_id)) + len(log.read(run.thread.stream_id))


def fail(run: Run, claim: Claim) -> None:
    """What expiry or a refused quota does to a run nobody drives."""
    with transaction.atomic():
        held = fence.hold(run.pk, (RunStatus.PENDING, RunStatus.WAITING))
        if held is not None:
            write.record(held, transitions.end(held, run, RunStatus.FAILED, code="expired"))


def end(status: RunStatus) -> Callable[[Run, Claim], object]:
    return lambda run, claim: room.commit(claim, transitions.end(claim, run, status))


def wait(run: Run, claim: Claim) -> object:
    return room.commit(claim, transitions.waiting(claim, [*ToolCall.objects.filter(run=run)], suspect=False))


def release(run: Run, claim: Claim) -> object:
    return room.commit(claim, transitions.released(claim, "drained", suspect=False))


def resume(run: Run, claim: Claim) -> object:
    Run.objects.filter(pk=run.pk).update(poisoned_at=timezone.now())
    return runs.resume(run, user=SYSTEM)


def decide(run: Run, claim: Claim) -> object:
    approval = Approval.objects.get()
    return approvals.deny(approval, user=SYSTEM, digest=approval.digest)


MOVES: dict[str, tuple[Callable[[Run, Claim], object], dict[RunStatus, RunStatus]]] = {
    # what is tried: the statuses it moves a run from, and where to
    "claim": (lambda run, claim: room.claim(run.pk, "w"), {RunStatus.PENDING: RunStatus.RUNNING}),
    "suspend": (wait, {RunStatus.RUNNING: RunStatus.WAITING}),
    "release": (release, {RunStatus.RUNNING: RunStatus.PENDING}),
    "succeed": (end(RunStatus.SUCCEEDED), {RunStatus.RUNNING: RunStatus.SUCCEEDED}),
    "fail": (end(RunStatus.FAILED), {RunStatus.RUNNING: RunStatus.FAILED}),
    "end canceled": (end(RunStatus.CANCELED), {RunStatus.RUNNING: RunStatus.CANCELED}),
    "expire": (fail, {RunStatus.PENDING: RunStatus.FAILED, RunStatus.WAITING: RunStatus.FAILED}),
    "cancel": (
        lambda run, claim: runs.cancel(run, user=SYSTEM),
        {RunStatus.PENDING: RunStatus.CANCELED, RunStatus.WAITING: RunStatus.CANCELED},
    ),
    "resume": (resume, {RunStatus.WAITING: RunStatus.PENDING}),
    "decide": (decide, {RunStatus.WAITING: RunStatus.PENDING}),
}


# These leave a note for the worker that drives the run, or will, and leave the status to it.
NOTES = {("cancel", RunStatus.RUNNING), ("decide", RunStatus.RUNNING), ("decide", RunStatus.PENDING)}


def test_the_moves_below_are_all_the_moves_there_are() -> None:
    tried = {(source, target) for _, moves in MOVES.values() for source, target in moves.items()}
    tabled = {(source, target) for source, targets in RUN_TRANSITIONS.items() for target in targets}
    assert tried == tabled - {(RunStatus.RUNNING, RunStatus.RUNNING)}  # a lost lease, tested by itself


@pytest.mark.django_db
@pytest.mark.parametrize(("move", "source"), list(product(MOVES, RunStatus)))
def test_a_run_moves_from_the_statuses_it_may_and_from_no_other(run: Run, move: str, source: RunStatus) -> None:
    act, moves = MOVES[move]
    claim = put(run, source)
    before, logged = row(Run, run.pk), size(run)
    try:
        act(run, claim)
    except (LeaseLost, AgentcoreError):
        assert source not in moves
    after = row(Run, run.pk)
    if source in moves:
        assert after["status"] == moves[source] and size(run) > logged
        return
    assert after["status"] == source
    if (move, source) not in NOTES:
        before["poisoned_at"] = after["poisoned_at"]  # the precondition `resume` is tried under
        assert after == before and size(run) == logged


@pytest.mark.django_db
@pytest.mark.parametrize(("lease", "takes"), [(60, False), (-1, True)])
def test_a_running_run_is_taken_over_when_its_lease_is_over_and_not_before(run: Run, lease: float, takes: bool) -> None:
    put(run, RunStatus.RUNNING, lease=lease)
    taken = room.claim(run.pk, "another")
    assert (taken is not None) == takes
    assert row(Run, run.pk)["attempt"] == ATTEMPT + takes


@pytest.mark.django_db
def test_a_worker_that_lost_its_run_writes_nothing(run: Run) -> None:
    old = put(run, RunStatus.RUNNING, lease=-1)
    assert room.claim(run.pk, "another") is not None
    before, logged = row(Run, run.pk), size(run)
    for act in (wait, release, end(RunStatus.SUCCEEDED)):
        with pytest.raises(LeaseLost):
            act(run, old)
    assert row(Run, run.pk) == before and size(run) == logged


@pytest.mark.django_db
@pytest.mark.parametrize("status", [status for status in RunStatus if status.terminal])
def test_no_sweep_reopens_what_has_ended(run: Run, status: RunStatus) -> None:
    put(run, status)
    before = row(Run, run.pk)
    sweep()
    assert row(Run, run.pk) == before


MOVES_OF_A_CALL = [(source, target) for source, targets in TOOL_CALL_TRANSITIONS.items() for target in sorted(targets)]


def _times(closed: bool) -> Any:
    return timezone.now() if closed else None


@pytest.mark.django_db
@pytest.mark.parametrize("found", ToolCallStatus)
@pytest.mark.parametrize(("source", "target"), MOVES_OF_A_CALL)
def test_a_call_moves_from_where_it_stands_or_the_whole_commit_is_void(
    run: Run, found: ToolCallStatus, source: ToolCallStatus, target: ToolCallStatus
) -> None:
    call = ToolCall.objects.get()
    claim = put(run, RunStatus.RUNNING)
    ToolCall.objects.filter(pk=call.pk).update(status=found, finished_at=_times(not TOOL_CALL_TRANSITIONS[found]))
    before, logged = row(ToolCall, call.pk), size(run)
    values = {"status": target.value, "finished_at": None if TOOL_CALL_TRANSITIONS[target] else NOW}
    commit = Commit(moves=[Move(call, source, values)], thread_events=[claim.changed(RunStatus.RUNNING)])
    if found == source:
        room.commit(claim, commit)
        assert row(ToolCall, call.pk)["status"] == target and size(run) == logged + 1
    else:
        with pytest.raises(Moved):
            room.commit(claim, commit)
        assert row(ToolCall, call.pk) == before and size(run) == logged


@pytest.mark.django_db
@pytest.mark.covers("promise:P6")
@pytest.mark.parametrize("consumed", [False, True])
def test_an_approval_is_consumed_once_or_the_whole_commit_is_void(run: Run, consumed: bool) -> None:
    claim, approval = put(run, RunStatus.RUNNING), Approval.objects.get()
    call, moment = approval.tool_call, timezone.now()
    Approval.objects.filter(pk=approval.pk).update(
        status=ApprovalStatus.APPROVED, decided_at=moment, consumed_at=moment if consumed else None
    )
    starts = Move(call, ToolCallStatus.WAITING, {"status": ToolCallStatus.PENDING.value})
    commit = Commit(moves=[starts, tools._consume(approval)], thread_events=[claim.changed(RunStatus.RUNNING)])
    logged = size(run)
    if consumed:
        with pytest.raises(Moved):
            room.commit(claim, commit)
    else:
        room.commit(claim, commit)
    assert row(ToolCall, call.pk)["status"] == ("waiting" if consumed else "pending")
    assert (row(Approval, approval.pk)["consumed_at"] == moment) is consumed
    assert size(run) == logged + (not consumed)


def _approve(approval: Approval) -> object:
    return approvals.approve(approval, user=SYSTEM, digest=approval.digest)


def _deny(approval: Approval) -> object:
    return approvals.deny(approval, user=SYSTEM, digest=approval.digest)


def _expire(approval: Approval) -> object:
    Approval.objects.filter(pk=approval.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    return approvals.expire(approval.pk)


def _end_run(approval: Approval) -> object:
    return runs.cancel(approval.run_id, user=SYSTEM)


DECISIONS = {
    ApprovalStatus.APPROVED: _approve,
    ApprovalStatus.DENIED: _deny,
    ApprovalStatus.EXPIRED: _expire,
    ApprovalStatus.CANCELED: _end_run,
}


@pytest.mark.django_db
@pytest.mark.parametrize(("source", "target"), list(product(ApprovalStatus, DECISIONS)))
def test_an_approval_is_decided_once_and_stays_so(run: Run, source: ApprovalStatus, target: ApprovalStatus) -> None:
    approval = Approval.objects.get()
    decided = source is not ApprovalStatus.PENDING
    Approval.objects.filter(pk=approval.pk).update(status=source, decided_at=_times(decided))
    before = row(Approval, approval.pk)
    try:
        DECISIONS[target](approval)
    except AgentcoreError:
        assert decided
    after = row(Approval, approval.pk)
    assert after["status"] == (source if decided else target)
    if decided:
        assert after == {**before, "expires_at": after["expires_at"]}
