"""Time is the database's, in UTC: a worker's own clock and zone decide nothing, and a jump grants nothing twice."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.db.models import F
from django.utils import timezone

from agentcore import SYSTEM
from agentcore.database.dialect import DbNow
from agentcore.engine.runtime import Runtime
from agentcore.jobs.single import execute_run
from agentcore.models import Approval, Run, Thread
from agentcore.services import execution
from agentcore.services.sweep import sweep
from agentcore.testing import fake_clock
from tests.faults.runs import LONG, assert_log_is_whole, events, send, status
from tests.integration.room import race
from tests.stack import ROOT, Process, Stack, wait_for
from tests.testapp import agents

DAY = 86_400
SKEWED = str(Path(__file__).with_name("skewed"))
MARGIN = timedelta(minutes=1)  # between what a log says and the test's own clock, where a zone would make an hour


def times(run: Run) -> list[datetime]:
    return [datetime.fromisoformat(event["ts"]) for event in events(run)]


def assert_told_in_utc(run: Run) -> None:
    assert all(event["ts"].endswith("Z") for event in events(run))
    now = datetime.now(UTC)
    assert all(now - MARGIN < moment < now + MARGIN for moment in times(run))
    assert times(run) == sorted(times(run))


@pytest.mark.longer
@pytest.mark.covers("fault:D12", "promise:P2")
@pytest.mark.parametrize("skew", [300, -300])
def test_workers_whose_clocks_are_wrong_neither_lose_nor_steal_a_lease(
    stack: Stack, make_thread: Callable[..., Any], skew: int
) -> None:
    wrong = {"PYTHONPATH": f"{SKEWED}:{ROOT}", "CLOCK_SKEW": str(skew)}
    runs = [send(agents.slow, make_thread("slow")) for _ in range(2)]
    # One of each is right, so that they disagree about every lease.
    stack.worker()
    stack.sweeper(**wrong)
    skewed = stack.worker(**wrong)
    wait_for(lambda: {status(run) for run in runs} == {"succeeded"}, 2 * LONG, "both runs to succeed")
    for run in runs:
        assert_log_is_whole(run)
        assert Run.objects.get(pk=run.pk).attempt == 1
        assert_told_in_utc(run)
    wrong_by = (clock_of(skewed) - seconds_of_day(datetime.now())) % DAY  # midnight may lie between the two
    assert min(wrong_by, DAY - wrong_by) > 200, "the worker's clock was not wrong"


def seconds_of_day(moment: datetime) -> int:
    return moment.hour * 3600 + moment.minute * 60 + moment.second


def clock_of(process: Process) -> int:
    """The time of day that a process's first dated line says."""
    dated = re.compile(r"\b(\d\d):(\d\d):(\d\d)\b")
    found = wait_for(lambda: dated.search(process.text), LONG, "a dated line")  # others may have done its work before
    assert found is not None
    hours, minutes, seconds = map(int, found.groups())
    return hours * 3600 + minutes * 60 + seconds


@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("fault:D13", "promise:P2")
def test_a_clock_set_back_lets_a_lease_last_longer_and_grants_it_once(thread: Thread) -> None:
    run = send(agents.echo, thread)
    lease = timezone.now() + timedelta(seconds=1)
    Run.objects.filter(pk=run.pk).update(status="running", attempt=1, worker="other", lease_expires_at=lease)
    Run.objects.filter(pk=run.pk).update(dispatched_at=None)
    with fake_clock() as clock:
        clock.advance(2)
        assert sweep().hinted == 1  # it is over …
        Run.objects.filter(pk=run.pk).update(dispatched_at=None, dispatch_count=0)
        clock.advance(-60)
        assert (sweep().hinted, execute_run(str(run.pk))) == (0, "nothing")  # … and is not, a minute earlier
        clock.advance(120)
        driven = race(*[lambda: execution.drive(run.pk, Runtime("worker"))] * 4)
        assert sorted(driven) == ["ended", "nothing", "nothing", "nothing"]
        clock.advance(-120)
        assert execute_run(str(run.pk)) == "nothing"
    assert Run.objects.get(pk=run.pk).attempt == 2
    assert [event["type"] for event in events(run)].count("done") == 1


ZONES = ["Pacific/Kiritimati", "Pacific/Marquesas", "Australia/Lord_Howe"]  # +14, −9:30, and half an hour in summer


@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("fault:O10")
@pytest.mark.parametrize("zone", ZONES)
def test_leases_expiry_and_the_log_are_the_same_in_every_zone(
    make_thread: Callable[..., Any], settings: LazySettings, zone: str
) -> None:
    settings.TIME_ZONE = zone
    run, other = send(agents.gated, make_thread("gated")), send(agents.echo, make_thread())
    assert execution.drive(run.pk, Runtime("worker")) == "suspended"
    week = timedelta(days=7)
    approval = Approval.objects.annotate(left=F("expires_at") - DbNow()).get(run=run)
    assert week - MARGIN < approval.left <= week  # type: ignore[attr-defined]
    assert not sweep().expired
    agents.gated.tools.deny(approval.pk, user=SYSTEM, digest=approval.digest)
    for one in (run, other):
        execution.drive(one.pk, Runtime("worker"))
        assert status(one) == "succeeded"
        assert_log_is_whole(one)
        assert_told_in_utc(one)


@pytest.mark.own_workers
@pytest.mark.covers("fault:O10")
def test_a_worker_in_another_zone_keeps_its_lease(stack: Stack, make_thread: Callable[..., Any]) -> None:
    run = send(agents.slow, make_thread("slow"))
    stack.sweeper(TZ=ZONES[0])
    stack.worker(TZ=ZONES[1])
    wait_for(lambda: status(run) == "succeeded", LONG, "the run to succeed")
    assert Run.objects.get(pk=run.pk).attempt == 1
    assert_told_in_utc(run)
