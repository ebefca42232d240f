"""Commits of a worker that meet others: written again where they lost, and never taken for what they are not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection

from agentcore.engine.runtime import Runtime
from agentcore.models import Run
from agentcore.services import execution
from agentcore.testing.faults.plans import armed
from tests.faults.runs import assert_log_is_whole, send
from tests.testapp import agents, world

pytestmark = pytest.mark.django_db(transaction=True)

MOST_COMMITS = 30


@pytest.mark.covers("fault:D10")
def test_a_look_that_meets_the_end_of_a_run_does_not_take_it_for_lost(
    make_thread: Callable[..., Any], settings: LazySettings
) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "CANCEL_POLL_SECONDS": 0.001, "LEASE_SECONDS": 30}
    runs = [send(agents.echo, make_thread()) for _ in range(100)]

    async def drive_all() -> list[str]:
        runtime = Runtime("eager", alone=False, own_threads=True)
        try:
            return [
                str(outcome) for outcome in await asyncio.gather(*(execution.adrive(run.pk, runtime) for run in runs))
            ]
        finally:
            await runtime.aclose()

    outcomes = asyncio.run(drive_all())
    assert set(Run.objects.values_list("status", flat=True)) == {"succeeded"}
    assert outcomes == ["ended"] * len(runs)


@pytest.mark.postgres
@pytest.mark.covers("fault:D4", "promise:P4")
@pytest.mark.parametrize("state", ["40001", "40P01", "55P03"], ids=["serialization", "deadlock", "lock timeout"])
def test_a_commit_that_is_rolled_back_for_anothers_sake_is_made_again(
    make_thread: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: str
) -> None:
    fails = f"DO $$ BEGIN RAISE EXCEPTION 'rolled back' USING ERRCODE = '{state}'; END $$"
    for number in range(MOST_COMMITS):
        monkeypatch.setenv(world.LOG_VARIABLE, str(log := tmp_path / f"{number}.log"))
        commits = iter(range(MOST_COMMITS))

        def fail_once(commits: Iterator[int] = commits, number: int = number) -> None:
            if next(commits) == number:
                with connection.cursor() as cursor:
                    cursor.execute(fails)

        run = send(agents.worker_bee, make_thread("worker_bee"))
        with armed(before_commit=fail_once):
            assert execution.drive(run.pk, Runtime("worker")) == "ended"
        run.refresh_from_db()
        assert (run.status, run.attempt) == ("succeeded", 1)
        assert_log_is_whole(run)
        assert len(world.effects(log)) == 1
        if next(commits) <= number:
            break  # there were no more commits than these
    assert 2 < number < MOST_COMMITS - 1
