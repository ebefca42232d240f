"""The sweep goes on: past a row that defies it, with a wrong Redis address, and through whatever breaks a pass."""

from __future__ import annotations

import signal
import warnings
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from agentcore import SYSTEM, tool
from agentcore.jobs import sweeper
from agentcore.management.commands import agentcore_sweep
from agentcore.models import Approval, Run, ToolCall
from agentcore.services import dispatch
from agentcore.services import sweep as service
from agentcore.services.sweep import sweep
from agentcore.testing import Turn
from tests.integration.room import AGO, Room, fresh, make

pytestmark = pytest.mark.django_db


@tool(needs_approval=True)
def pay(cents: int) -> str:
    """Pay."""
    return "paid"


def unsent(room: Room) -> Run:
    """A pending run that needs a hint, in a thread of its own."""
    run = room.agent.runs.send(room.agent.threads.create(user=SYSTEM), "Go", user=SYSTEM)
    Run.objects.filter(pk=run.pk).update(dispatched_at=None, dispatch_count=0)
    return run


@pytest.mark.covers("promise:P1")
def test_a_row_that_cannot_be_dealt_with_is_logged_and_the_others_get_their_turn(caplog, monkeypatch):
    monkeypatch.setattr(dispatch, "enqueue", lambda *run_ids: True)
    room = make([Turn(calls=[("pay", {"cents": 1})])], [pay])
    odd = room.play()
    Approval.objects.filter(run=odd).update(expires_at=timezone.now() - AGO)
    # Not as any code leaves it: the approval is open, and its call is not.
    ToolCall.objects.filter(run=odd).update(status="canceled", finished_at=timezone.now())
    lost, run = unsent(room), unsent(room)
    Run.objects.filter(pk=lost.pk).update(status="waiting")

    def resume(run_id: Any) -> str:
        raise RuntimeError("this one")

    monkeypatch.setattr(service, "_resume_or_end", resume)
    assert sweep().hinted == 1
    assert fresh(run).dispatched_at is not None and fresh(lost).dispatched_at is None
    failures = [entry for entry in caplog.records if getattr(entry, "action", "") == "sweep_failed"]
    assert {entry.run_id for entry in failures} >= {str(odd.pk), str(lost.pk)}
    assert all(entry.exc_info for entry in failures)


@pytest.mark.covers("fault:R2")
def test_a_redis_address_that_is_none_costs_hints_and_not_the_sweep(settings, caplog):
    run = unsent(make([]))
    settings.RQ_QUEUES = {"agentcore": {**settings.RQ_QUEUES["agentcore"], "URL": "redis//typo"}}
    assert dispatch.enqueue(run.pk) is False
    assert sweep().hinted == 0 and fresh(run).dispatched_at is None
    assert "hint not sent: ValueError" in caplog.text


def test_the_loop_goes_on_after_a_pass_that_broke_off(monkeypatch, settings, caplog):
    settings.AGENTCORE = {**settings.AGENTCORE, "SWEEP_SECONDS": 0.01}
    stops: dict[int, Any] = {}
    monkeypatch.setattr(agentcore_sweep.signal, "signal", stops.__setitem__)
    passes: list[int] = []

    def broken() -> None:
        passes.append(len(passes))
        if len(passes) == 3:
            stops[signal.SIGTERM](signal.SIGTERM, None)
        raise KeyError("what nobody thought of")

    monkeypatch.setattr(service, "sweep", broken)
    monkeypatch.setattr(sweeper.connections, "close_all", lambda: None)
    call_command("agentcore_sweep", "--loop")
    assert len(passes) == 3 and caplog.text.count("a pass was broken off") == 3


def test_a_client_of_redis_is_closed_when_it_is_forgotten(settings):
    run = unsent(make([]))
    dispatch.forget()  # a client of this process may have made connections for several threads
    assert dispatch.enqueue(run.pk)
    (client,) = dispatch._clients.values()
    (connection,) = client.connection_pool._available_connections
    assert connection._sock is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        settings.RQ_QUEUES = {**settings.RQ_QUEUES}
    assert connection._sock is None and dispatch._clients == {}
    assert dispatch.enqueue(run.pk)
