"""The sweep passes a row that somebody holds, whatever it was about to do to it, and comes back to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.db import OperationalError, connection
from django.db.models import Model
from django.utils import timezone

from agentcore import SYSTEM
from agentcore.models import Approval, Run, SweepLease
from agentcore.services import dispatch
from agentcore.services.sweep import release_lease, sweep, sweep_with_lease
from agentcore.testing import Turn, run_until_idle
from tests.faults import postgres
from tests.integration.decision_room import pay
from tests.integration.room import AGO, Room, claim, fresh, lapse, make

# SQLite has no rows to hold.
pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True), pytest.mark.covers("promise:P1")]


@pytest.fixture
def office(monkeypatch: pytest.MonkeyPatch) -> Room:
    """An agent whose runs ask for an approval; every hint goes out."""
    monkeypatch.setattr(dispatch, "enqueue", lambda *run_ids: True)
    return make([Turn(calls=[("pay", {"cents": 1})])] * 2, [pay])


def started(office: Room) -> Run:
    return office.agent.runs.send(office.agent.threads.create(user=SYSTEM), "Go", user=SYSTEM)


def unhinted(run: Run) -> None:
    Run.objects.filter(pk=run.pk).update(dispatched_at=None, dispatch_count=0)


def poisoned(run: Run) -> None:
    claim(run.pk)
    lapse(run)
    Run.objects.filter(pk=run.pk).update(lost_leases=99)


def forgotten(run: Run) -> None:
    run_until_idle(run)
    Run.objects.filter(pk=run.pk).update(status="waiting")
    Approval.objects.filter(run=run).delete()
    run.tool_calls.update(status="denied", finished_at=timezone.now())


def undecided(run: Run) -> None:
    run_until_idle(run)
    Approval.objects.filter(run=run).update(expires_at=timezone.now() - AGO)


@contextmanager
def held(row: Model) -> Iterator[None]:
    """Hold a row, as a process that hangs in its transaction does."""
    with postgres.session() as holder, holder.transaction(force_rollback=True):
        holder.execute(f"SELECT 1 FROM {row._meta.db_table} WHERE id = %s FOR NO KEY UPDATE", [row.pk])
        yield


@contextmanager
def ended_after(limit: str) -> Iterator[None]:
    """Limit every statement of this test's connection."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET statement_timeout = '{limit}'")
        yield
        cursor.execute("RESET statement_timeout")


@pytest.mark.parametrize(
    ("make_due", "done"),
    [(unhinted, "hinted"), (poisoned, "poisoned"), (forgotten, "resumed"), (undecided, "expired")],
    ids=["hint", "park", "resume", "expire"],
)
def test_a_held_row_costs_the_others_a_moment(
    office: Room, make_due: Callable[[Run], None], done: str, caplog: pytest.LogCaptureFixture
) -> None:
    stuck, other = started(office), started(office)
    for run in (stuck, other):
        make_due(run)
    # A sweep that waits is ended by the database, long after.
    with held(stuck), ended_after("5s"), caplog.at_level("INFO", "agentcore.sweep"):
        assert getattr(sweep(), done) == 1
    assert [entry.run_id for entry in caplog.records if getattr(entry, "action", "") == "sweep_held"] == [str(stuck.pk)]
    assert not [entry for entry in caplog.records if entry.levelname == "ERROR" and entry.action == "sweep_failed"]
    before = fresh(stuck).next_seq, fresh(stuck).dispatch_count
    assert getattr(sweep(), done) == 1
    assert (fresh(stuck).next_seq, fresh(stuck).dispatch_count) != before


@pytest.mark.covers("fault:O9")
@pytest.mark.parametrize("seconds", [60, -60], ids=["living", "lapsed"])
def test_a_sweeper_does_not_wait_for_the_lease_and_sweeps_if_nobody_has_it(office: Room, seconds: float) -> None:
    run = started(office)
    unhinted(run)
    SweepLease.objects.acquire("host:1", seconds)
    with held(SweepLease.objects.get()), ended_after("5s"):
        report = sweep_with_lease("other:2")
    assert (report.hinted if report else 0) == (seconds < 0)
    assert fresh(run).dispatch_count == (seconds < 0)


@pytest.mark.usefixtures("long_turn")
def test_a_sweeper_that_ends_does_not_wait_for_its_lease() -> None:
    assert sweep_with_lease("host:1") is not None
    with held(SweepLease.objects.get()), ended_after("5s"), pytest.raises(OperationalError, match="lock timeout"):
        release_lease("host:1")
    assert sweep_with_lease("other:2") is None
