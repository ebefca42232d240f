"""Commits of a worker that meet others: written again where they lost, and never taken for what they are not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import LazySettings

from agentcore import SYSTEM
from agentcore.engine.runtime import Runtime
from agentcore.models import Run
from agentcore.services import execution, messages
from tests.faults.runs import assert_log_is_whole, send
from tests.integration.room import driven
from tests.testapp import agents

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.covers("fault:D10")
def test_a_look_that_meets_the_end_of_a_run_does_not_take_it_for_lost(
    make_thread: Callable[..., Any], settings: LazySettings
) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "CANCEL_POLL_SECONDS": 0.001}
    runs = [send(agents.echo, make_thread()) for _ in range(100)]

    async def drive_all() -> list[str]:
        runtime = Runtime("eager", alone=False)
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
@pytest.mark.covers("fault:D4")
def test_a_worker_whose_commit_cannot_be_serialized_makes_it_again(
    strict_sessions: None,
    make_thread: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    thread = make_thread("slow")
    run = send(agents.slow, thread)
    caplog.set_level(logging.WARNING, logger="agentcore.engine")
    with driven(run) as worker:
        while worker.is_alive():
            messages.save(thread, "meanwhile", user=SYSTEM)
    run.refresh_from_db()
    assert (run.status, run.attempt) == ("succeeded", 1)
    assert "could not serialize access" in caplog.text, "there was no conflict"
    assert_log_is_whole(run)
