"""Poison: a run that costs worker after worker is parked until a person resumes or ends it."""

from __future__ import annotations

import pytest

from agentcore import SYSTEM
from agentcore.conf import get_settings
from agentcore.exceptions import Conflict
from agentcore.models import Run, Step, ToolCall
from agentcore.services import approvals, execution, runs
from agentcore.services.sweep import sweep
from agentcore.testing import Turn
from tests.integration.doomed import TOOLS, WORLD, DiesMidText
from tests.integration.room import (
    assert_ended_once,
    claim,
    die_driving,
    drive_to_the_end,
    fresh,
    log,
    make,
    only_approval,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nobody_died")]


@pytest.mark.covers("fault:W14")
def test_a_run_that_costs_worker_after_worker_is_parked_until_a_person_resumes_it():
    poison_after = get_settings().poison_after
    room = make(DiesMidText(deaths=poison_after))
    run = room.send()
    for _ in range(poison_after):
        die_driving(run)
    assert claim(run.pk, "one more") is None
    assert sweep().poisoned == 1
    run.refresh_from_db()
    assert run.status == "waiting" and run.waiting_reasons() == ["poisoned"]
    assert run.attempt == poison_after and log(run)[-1]["reasons"] == ["poisoned"]
    assert not sweep().did_something
    assert execution.drive(run.pk) == "nothing"
    runs.resume(run, user=SYSTEM)
    assert drive_to_the_end(run).status == "succeeded"
    assert run.poisoned_at is None and room.model.calls == poison_after + 1
    with pytest.raises(Conflict):
        runs.resume(run, user=SYSTEM)


def test_progress_forgives_lost_leases():
    room = make([Turn(calls=[("idempotent", {})])] * 4 + [Turn(text="Done.")], TOOLS)
    run = room.send()
    WORLD.deaths_of_each = get_settings().poison_after - 1
    for _ in range(4 * WORLD.deaths_of_each):
        die_driving(run)
    assert drive_to_the_end(run).status == "succeeded" and run.attempt == 9


def test_a_parked_run_keeps_waiting_for_a_person_when_its_approval_is_decided(operator):
    room = make([Turn(calls=[("gated", {}), ("idempotent", {})]), Turn(text="Done.")], TOOLS)
    run = room.send()
    WORLD.deaths = get_settings().poison_after
    for _ in range(get_settings().poison_after):
        die_driving(run)
    sweep()
    assert run.waiting_reasons() == [] and fresh(run).waiting_reasons() == ["approval", "poisoned"]
    approval = only_approval(run)
    approvals.approve(approval, user=operator, digest=approval.digest)
    assert fresh(run).status == "waiting" and fresh(run).waiting_reasons() == ["poisoned"]
    assert not sweep().did_something
    runs.resume(run, user=SYSTEM)
    assert drive_to_the_end(run).status == "succeeded"
    assert ToolCall.objects.filter(run=run, status="succeeded").count() == 2


def test_a_parked_run_can_be_canceled_and_leaves_nothing_open():
    room = make([Turn(calls=[("gated", {}), ("unsafe", {}), ("pure", {})])], TOOLS)
    run = room.send()
    WORLD.deaths_of_each = 1  # of both: whichever runs first, the other may not end well before the worker is gone
    die_driving(run)
    Run.objects.filter(pk=run.pk).update(lost_leases=get_settings().poison_after)
    sweep()
    assert runs.cancel(run, user=SYSTEM).status == "canceled"
    assert_ended_once(run, "canceled")
    statuses = dict(ToolCall.objects.filter(run=run).values_list("name", "status"))
    assert statuses == {"gated": "canceled", "unsafe": "effect_unverified", "pure": "canceled"}
    assert not Step.objects.filter(run=run, status="started").exists()


@pytest.mark.covers("promise:P8")
def test_a_cancel_that_no_worker_lived_to_see_ends_the_run_instead_of_parking_it():
    run = make(DiesMidText(deaths=9)).send()
    for _ in range(get_settings().poison_after):
        die_driving(run)
    runs.cancel(run, user=SYSTEM, reason="Enough.")
    assert fresh(run).status == "running"
    sweep()
    assert_ended_once(run, "canceled")
