"""Many sweepers, one sweeps; a dead one is replaced, and the run of a dead worker goes on soon after its lease."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db.models.functions import Now

from agentcore.models import Run, SweepLease
from agentcore.services import dispatch
from tests.faults.openings import inside_its_tool
from tests.faults.runs import LONG, events, send, wait_for_success
from tests.stack import Stack, wait_for
from tests.testapp import agents


@pytest.mark.own_workers
@pytest.mark.covers("fault:O9", "promise:P1")
def test_of_three_sweepers_one_sweeps_and_a_dead_one_is_replaced_within_seconds(
    stack: Stack, make_thread: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweepers = {sweeper.pid: sweeper for sweeper in (stack.sweeper() for _ in range(3))}
    held = SweepLease.objects.filter(expires_at__gt=Now())
    holder = wait_for(lambda: held.values_list("holder", flat=True).first(), LONG, "a sweeper")
    seen = set()
    until = time.monotonic() + 3
    while time.monotonic() < until:
        seen |= set(held.values_list("holder", flat=True))
        time.sleep(0.05)
    assert seen == {holder}
    doomed = sweepers.pop(int(holder.rpartition(":")[2]))
    doomed.kill9()
    successor = wait_for(
        lambda: held.exclude(holder=holder).values_list("holder", flat=True).first(), 5, "the next sweeper"
    )
    assert int(successor.rpartition(":")[2]) in sweepers
    monkeypatch.setattr(dispatch, "enqueue", lambda *run_ids: False)  # the hint is lost
    run = send(agents.echo, make_thread())
    monkeypatch.undo()
    stack.worker("stock")
    wait_for_success(run)
    # One that ends hands over: the last one need not wait for the lease to run out.
    leaving = sweepers.pop(int(successor.rpartition(":")[2]))
    assert leaving.sigterm() == 0
    (last,) = sweepers
    wait_for(lambda: held.filter(holder__endswith=f":{last}").exists(), 5, "the last sweeper")


@pytest.mark.covers("promise:P1", "fault:W2")
def test_a_killed_workers_run_is_claimed_soon_after_its_lease(stack: Stack, make_thread: Callable[..., Any]) -> None:
    run, doomed = inside_its_tool(stack, agents.careful_bee, make_thread)
    stack.worker()
    stack.sweeper()
    doomed.kill9()
    lapse = Run.objects.values_list("lease_expires_at", flat=True).get(pk=run.pk)
    wait_for(lambda: Run.objects.get(pk=run.pk).attempt == 2, 10, "the take-over")
    stack.release_tools()
    wait_for_success(run)
    started = [event for event in events(run) if event["type"] == "run.started"]
    assert len(started) == 2
    taken = started[1]["ts"]
    assert taken > lapse.isoformat(timespec="milliseconds").replace("+00:00", "Z")
