"""One clock, the database's: whatever agentcore decides by the time moves with it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection

from agentcore import SYSTEM
from agentcore.database import dialect
from agentcore.database.dialect import DbNow
from agentcore.exceptions import ApprovalExpired
from agentcore.models import Run, Thread
from agentcore.services import execution
from agentcore.services.sweep import sweep
from agentcore.testing import fake_clock
from agentcore.values import clock
from tests.faults.runs import events, send, status
from tests.integration.room import claim
from tests.stack import ROOT
from tests.testapp import agents

pytestmark = pytest.mark.django_db

DAY = 86_400.0


def db_now() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {dialect.clock()} WHERE 1 = %s", [1])
        return dialect.time_out(cursor.fetchone()[0])


def db_later(seconds: float) -> datetime:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {dialect.after(dialect.clock(), str(seconds))} WHERE 1 = %s", [1])
        return dialect.time_out(cursor.fetchone()[0])


def ahead(moment: datetime) -> float:
    """By how many seconds a time is ahead of this machine's, to the nearest ten."""
    return round((moment - datetime.now(UTC)).total_seconds(), -1)


def test_sql_queries_and_stored_times_are_all_of_the_moved_clock(thread: Thread) -> None:
    run = send(agents.echo, thread)
    for offset in (0.0, 7 * DAY, -90.0):
        with fake_clock(offset):
            asked = Run.objects.values_list(DbNow(), flat=True).get(pk=run.pk)
            assert {ahead(asked), ahead(db_now()), ahead(db_later(60) - timedelta(seconds=60))} == {offset}
            Run.objects.filter(pk=run.pk).update(available_at=DbNow())
            stored = Run.objects.get(pk=run.pk).available_at
            assert stored is not None and ahead(stored) == offset
    assert ahead(db_now()) == 0


def test_time_passes_when_it_is_told_to() -> None:
    with fake_clock(timedelta(days=1)) as moved:
        moved.advance(60)
        moved.advance(timedelta(hours=-24))
        assert (moved.offset, ahead(db_now())) == (60, 60)
        with fake_clock(10):
            assert clock.offset() == 70
        assert clock.offset() == 60
    assert clock.offset() == 0


def test_the_database_writes_a_time_as_long_as_python_does(thread: Thread) -> None:
    run = send(agents.echo, thread)
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {dialect.clock()}, {dialect.after(dialect.clock(), '5')} WHERE 1 = %s", [1])
            assert {len(text) for text in cursor.fetchone()} == {len("2026-01-01 00:00:00.123000")}
    # Whatever the database: a time it gave is found again by an exact comparison.
    Run.objects.filter(pk=run.pk).update(available_at=DbNow())
    moment = Run.objects.get(pk=run.pk).available_at
    assert moment is not None
    if moment.microsecond:
        assert Run.objects.filter(pk=run.pk, available_at=moment).exists()


@pytest.mark.covers("fault:A9")
def test_an_approval_expires_without_a_wait(make_thread: Callable[..., Any]) -> None:
    run = send(agents.gated, make_thread("gated"))
    execution.drive(run.pk)
    approval = run.approvals.get()
    with fake_clock(8 * DAY):
        with pytest.raises(ApprovalExpired):
            agents.gated.tools.approve(approval.pk, user=SYSTEM, digest=approval.digest)
        assert sweep().expired == 1
    approval.refresh_from_db()
    assert approval.status == "expired"


@pytest.mark.usefixtures("long_lease")
@pytest.mark.covers("fault:D13")
def test_a_clock_set_back_makes_leases_longer_and_grants_none_twice(thread: Thread) -> None:
    run = send(agents.echo, thread)
    assert claim(run.pk, "first") is not None
    with fake_clock() as moved:
        moved.advance(-60)
        assert claim(run.pk, "second") is None
        moved.advance(60)
        assert claim(run.pk, "second") is None
        moved.advance(60)
        taken = claim(run.pk, "second")
    assert taken is not None and taken.attempt == 2


def test_events_are_stamped_by_the_moved_clock(thread: Thread) -> None:
    with fake_clock(365 * DAY):
        run = send(agents.echo, thread)
        execution.drive(run.pk)
    assert status(run) == "succeeded"
    assert all(ahead(datetime.fromisoformat(event["ts"])) == 365 * DAY for event in events(run))


def test_the_clock_cannot_be_moved_where_the_setting_does_not_allow_it(settings: LazySettings) -> None:
    settings.AGENTCORE = {}
    with pytest.raises(RuntimeError, match="FAILPOINTS"), fake_clock(5):
        pass
    assert clock.offset() == 0


@pytest.mark.once
@pytest.mark.parametrize(("module", "seen"), [("tests.settings.sqlite", "300.0"), ("tests.settings.lint", "0.0")])
def test_another_process_reads_the_clock_it_is_given_where_its_settings_allow_it(module: str, seen: str) -> None:
    with fake_clock(300) as moved:
        env = {**os.environ, **moved.environment, "DJANGO_SETTINGS_MODULE": module}
    code = "import django; django.setup(); from agentcore.values import clock; print(clock.offset())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == (seen, "")
