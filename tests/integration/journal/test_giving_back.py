"""A process that cannot go on gives its runs back, and who may have killed it is driven alone after that."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from django.db import OperationalError, connections

from agentcore import SYSTEM, Agent
from agentcore.engine.runtime import Runtime
from agentcore.models import Run
from agentcore.services import events, execution
from agentcore.testing.faults.plans import armed
from tests.integration.journal.together import drive
from tests.integration.room import assert_ended_once, claim, fresh, log, race
from tests.stack import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_process_that_drains_gives_every_run_back_at_its_next_step(agent: Agent) -> None:
    run = agent.runs.send(agent.threads.create(user=SYSTEM), "Add.", user=SYSTEM)

    async def drain_in_the_first_step() -> Any:
        runtime = Runtime("worker", alone=False, own_threads=True)
        with armed(after_model_start=runtime.drain):
            outcome = await execution.adrive(run.pk, runtime)
        await runtime.aclose()
        return outcome

    (outcome,) = race(lambda: asyncio.run(drain_in_the_first_step()))
    assert outcome == "released"
    after = fresh(run)
    assert (after.status, after.lost_leases, after.alone, after.lease_expires_at) == ("pending", 0, False, None)
    assert next(event for event in log(run) if event["type"] == "run.released")["reason"] == "drained"
    assert after.dispatched_at is not None, "nobody was told that the run may go on"
    assert drive([run]) == ["ended"]
    assert_ended_once(run, "succeeded")
    assert [event["step"] for event in log(run) if event["type"] == "step.finished"] == [1, 2, 3]


class Speaks:
    """Says a word, and then nothing for long."""

    name, provider = "speaks", "tests"

    async def stream(self, request: Any) -> Any:
        from agentcore.declaration import model as base  # noqa: PLC0415

        yield base.TextDelta("One ")
        await asyncio.sleep(60)


def test_a_run_whose_drive_is_cancelled_is_handed_over_in_the_middle_of_its_step(agent: Agent) -> None:
    talker = Agent(name="speaker", model=Speaks())
    run = talker.runs.send(talker.threads.create(user=SYSTEM), "Talk.", user=SYSTEM)

    def said() -> bool:
        return any(event["type"] == "text.delta" for event in events.read(run, user=SYSTEM).events)

    async def cancel_it() -> Any:
        runtime = Runtime("worker", alone=False, own_threads=True)
        driving = asyncio.create_task(execution.adrive(run.pk, runtime))
        await asyncio.to_thread(lambda: (wait_for(said, 20, "its first word"), connections.close_all()))
        driving.cancel()
        outcome = await asyncio.gather(driving, return_exceptions=True)
        await runtime.aclose()
        return outcome

    (outcome,) = race(lambda: asyncio.run(cancel_it()))
    assert [type(item) for item in outcome] == [asyncio.CancelledError]
    after = fresh(run)
    assert (after.status, after.attempt, after.lost_leases) == ("pending", 1, 0)
    assert after.dispatched_at is not None
    assert [event["type"] for event in log(run)[-2:]] == ["step.reset", "run.released"]


def test_a_suspect_is_left_to_a_process_that_drives_nothing_else(sent: list[Run]) -> None:
    run = sent[0]
    assert claim(run.pk) is not None
    Run.objects.filter(pk=run.pk).update(lease_expires_at="2020-01-01T00:00:00Z", alone=False)
    assert drive([run]) == ["suspect"]
    assert fresh(run).attempt == 1
    (outcome,) = race(lambda: execution.drive(run.pk))
    assert outcome == "ended"
    assert (fresh(run).attempt, fresh(run).lost_leases) == (2, 0)


def test_a_suspect_that_is_given_back_before_its_next_step_stays_one(agent: Agent) -> None:
    run = agent.runs.send(agent.threads.create(user=SYSTEM), "Add.", user=SYSTEM)
    assert claim(run.pk) is not None
    Run.objects.filter(pk=run.pk).update(lease_expires_at="2020-01-01T00:00:00Z", alone=False)

    draining = Runtime("worker")
    draining.drain()
    (outcome,) = race(lambda: execution.drive(run.pk, draining))
    assert outcome == "released" and fresh(run).alone
    assert drive([run]) == ["suspect"]


@pytest.mark.parametrize("alone", [True, False])
def test_only_a_lease_lost_alone_counts(sent: list[Run], alone: bool) -> None:
    run = sent[0]
    assert claim(run.pk) is not None
    Run.objects.filter(pk=run.pk).update(lease_expires_at="2020-01-01T00:00:00Z", alone=alone)
    assert claim(run.pk) is not None
    assert fresh(run).lost_leases == int(alone)


def test_a_worker_that_cannot_renew_its_lease_stops_before_anybody_may_take_over(agent: Agent, settings: Any) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "LEASE_SECONDS": 1, "CANCEL_POLL_SECONDS": 0.1}
    talker = Agent(name="speaker", model=Speaks())
    run = talker.runs.send(talker.threads.create(user=SYSTEM), "Talk.", user=SYSTEM)
    began = threading.Event()

    def away() -> None:
        if began.is_set():
            raise OperationalError("cut off")

    with armed(after_model_start=began.set, before_commit=away):
        (outcome,) = drive([run])
    assert outcome == "lost"
    assert fresh(run).status == "running"
