"""Two releases side by side: a worker leaves alone what is not its own, and burns nothing of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentcore.models import Run
from tests.faults.runs import LONG, events, send, status, wait_for_success
from tests.stack import Stack, wait_for
from tests.testapp import agents


@pytest.mark.covers("fault:O4", "promise:P1")
@pytest.mark.parametrize("release", ["1", ""], ids=["another version", "no such agent"])
def test_an_old_worker_leaves_a_new_run_to_a_new_one_and_burns_no_attempt(
    stack: Stack, make_thread: Callable[..., Any], release: str
) -> None:
    old = stack.worker(**{agents.RELEASE_VARIABLE: release})
    run = send(agents.pinned, make_thread("pinned"))
    wait_for(lambda: "deferred: this process has no version 2" in old.text, LONG, "the old worker to decline")
    found = Run.objects.get(pk=run.pk)
    assert (found.status, found.attempt, found.lost_leases) == ("pending", 0, 0)
    assert found.available_at is not None
    assert [event["type"] for event in events(run)] == ["run.created"]
    stack.sweeper()
    stack.worker()
    assert old.sigterm() == 0  # it declined what it had not, and is well
    wait_for_success(run)
    assert Run.objects.get(pk=run.pk).attempt == 1


@pytest.mark.covers("fault:O4")
def test_an_old_worker_goes_on_with_its_own_runs_meanwhile(stack: Stack, make_thread: Callable[..., Any]) -> None:
    old = stack.worker(**{agents.RELEASE_VARIABLE: "1"})
    stack.sweeper()
    new = [send(agents.pinned, make_thread("pinned")) for _ in range(3)]
    own = [send(agents.echo, make_thread()) for _ in range(3)]
    wait_for(lambda: {status(run) for run in own} == {"succeeded"}, LONG, "its own runs to succeed")
    assert {status(run) for run in new} == {"pending"} and old.alive
