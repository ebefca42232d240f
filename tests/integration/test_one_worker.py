"""A run has one worker at a time: of many that claim it one gets it, and one that has lost it writes nothing."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.models import AbstractUser
from django.db import connections
from django.utils import timezone

from agentcore import SYSTEM, Agent, ToolContext, tool
from agentcore.conf import get_settings
from agentcore.exceptions import LeaseLost
from agentcore.journal.commit import Commit, Insert, Move
from agentcore.models import Message, Run, Step, ToolCall
from agentcore.services import execution
from agentcore.services.sweep import sweep
from agentcore.states import RunStatus, StepStatus
from agentcore.testing import ScriptedModel, Turn
from agentcore.values.clock import NOW
from agentcore.values.events import TextDelta as TextLogged
from tests.integration import room as scene
from tests.integration.doomed import TOOLS
from tests.integration.room import assert_ended_once, drive_to_the_end, fresh, lapse, log, make

pytestmark = pytest.mark.django_db

THREADS = 16
ROUNDS = 6


@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("dj:MOD-7")
@pytest.mark.usefixtures("long_lease")
def test_of_many_workers_that_claim_at_once_exactly_one_gets_each_run(user: AbstractUser) -> None:
    agent = Agent(name="test", model=ScriptedModel([]))
    started = [agent.runs.send(agent.threads.create(user=user), "Go", user=user) for _ in range(ROUNDS)]
    together = threading.Barrier(THREADS, timeout=60)

    def compete(worker: int) -> list[bool]:
        try:
            won = []
            for run in started:
                together.wait()
                won.append(scene.claim(run.pk, f"worker {worker}") is not None)
            return won
        finally:
            connections.close_all()

    with ThreadPoolExecutor(THREADS) as pool:
        results = [*pool.map(compete, range(THREADS))]
    assert [sum(wins) for wins in zip(*results, strict=True)] == [1] * ROUNDS
    for run in started:
        found = Run.objects.get(pk=run.pk)
        assert (found.status, found.attempt) == (RunStatus.RUNNING, 1)
        assert [item["type"] for item in agent.events.read(run, user=SYSTEM).events] == ["run.created", "run.started"]


def counts() -> tuple[int, ...]:
    return (Step.objects.count(), Message.objects.count(), ToolCall.objects.count())


@pytest.mark.covers("promise:P2", "fault:W13")
@pytest.mark.parametrize("then", ["taken", "ended", "parked"])
def test_the_next_commit_of_a_worker_whose_run_is_taken_writes_nothing(then):
    room = make([Turn(text="Hello")], TOOLS)
    run = room.send()
    stale = scene.claim(run.pk, "stale")
    assert stale is not None
    lapse(run)
    if then == "taken":
        assert scene.claim(run.pk, "fresh") is not None
    elif then == "ended":
        drive_to_the_end(run)
    else:
        Run.objects.filter(pk=run.pk).update(lost_leases=get_settings().poison_after)
        assert sweep().poisoned == 1
    other = Step.objects.create(run=room.send(), number=1, kind="model", attempt=1, started_at=timezone.now())
    before = (log(run), counts(), list(Run.objects.filter(pk=run.pk).values()))
    step = Step(run=run, number=9, kind="model", attempt=stale.attempt)
    late = Commit(
        events=[TextLogged(1, "from the grave")],
        inserts=[Insert(step, {"started_at": NOW})],
        moves=[Move(other, StepStatus.STARTED, {"status": "failed"})],
        run={"error_code": "stale"},
    )
    for commit in (late, Commit(), Commit(starts=True)):
        with pytest.raises(LeaseLost):
            scene.commit(stale, commit)
    assert (log(run), counts(), list(Run.objects.filter(pk=run.pk).values())) == before
    assert fresh(other).status == "started"


@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("promise:P2", "fault:W13")
def test_a_worker_that_wakes_up_after_the_take_over_drops_the_run_and_its_result():
    inside, go_on = threading.Event(), threading.Event()

    @tool(effect="idempotent")
    def sleepy(ctx: ToolContext) -> str:
        """Sleep through the first attempt's lease."""
        if ctx.attempt == 1:
            inside.set()
            assert go_on.wait(20)
        return f"attempt {ctx.attempt}"

    room = make([Turn(calls=[("sleepy", {})]), Turn(text="Done.")], [sleepy])
    run = room.send()
    outcomes: list[Any] = []

    def zombie() -> None:
        outcomes.append(execution.drive(run.pk))
        connections.close_all()

    worker = threading.Thread(target=zombie, daemon=True)
    worker.start()
    assert inside.wait(20)
    lapse(run)
    assert drive_to_the_end(run).status == "succeeded"
    go_on.set()
    worker.join(20)
    assert outcomes == ["lost"]
    assert ToolCall.objects.get(run=run).result_json == "attempt 2"
    assert_ended_once(run, "succeeded")


@pytest.mark.usefixtures("long_lease")
def test_a_lease_that_ran_out_unnoticed_is_renewed_by_the_next_commit():
    run = make([Turn(text="Hello")]).send()
    slow = scene.claim(run.pk, "slow")
    assert slow is not None
    lapse(run)
    scene.commit(slow, Commit())
    assert scene.claim(run.pk, "other") is None
