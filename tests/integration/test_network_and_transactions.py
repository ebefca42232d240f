"""No network call is made inside a transaction: a slow peer would hold up everybody who waits for the rows."""

from __future__ import annotations

import socket
import traceback
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connections, transaction
from redis import Redis

from agentcore import SYSTEM
from agentcore.engine.runtime import Runtime
from agentcore.models import Run, ToolCall
from agentcore.services import approvals, execution, runs, sending, unverified
from agentcore.services.sweep import sweep
from agentcore.testing import Turn
from tests.integration.decision_room import pay
from tests.integration.room import lapse, make, only_approval

pytestmark = pytest.mark.django_db(transaction=True)

CALLS = ("connect", "connect_ex", "send", "sendall", "sendto", "recv", "recv_into")


@pytest.fixture
def caught(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every use of a Python socket by a thread whose connection is in a transaction; psycopg's are not Python's."""
    seen: list[str] = []

    def watched(name: str) -> Any:
        real = getattr(socket.socket, name)

        def call(self: socket.socket, *args: Any, **kwargs: Any) -> Any:
            if self.family != socket.AF_UNIX and connections["default"].in_atomic_block:
                seen.append(f"{name}\n{''.join(traceback.format_stack(limit=12))}")
            return real(self, *args, **kwargs)

        return call

    for name in CALLS:
        monkeypatch.setattr(socket.socket, name, watched(name), raising=False)
    return seen


@pytest.mark.covers("dj:TX-6")
def test_a_run_is_sent_driven_decided_swept_cancelled_and_retried_without_one(caught: list[str]) -> None:
    turns = [Turn(calls=[("pay", {"cents": 1})]), Turn(text="Paid."), Turn(text="Again."), Turn(text="Once more.")]
    room = make(turns, [pay])
    run = room.send()
    assert execution.drive(run.pk, Runtime("worker")) == "suspended"
    approval = only_approval(run)
    approvals.approve(approval, user=SYSTEM, digest=approval.digest)
    assert execution.drive(run.pk, Runtime("worker")) == "ended"
    other, queued = room.send(), room.send()
    runs.cancel(other, user=SYSTEM, reason="Not needed.")
    again = sending.retry(other, user=SYSTEM)
    Run.objects.update(dispatched_at=None)
    assert sweep().hinted == 1
    for one in (queued, again):
        assert execution.drive(one.pk, Runtime("worker")) == "ended"
    assert caught == []


@pytest.mark.covers("dj:TX-6")
def test_a_lost_run_is_taken_over_and_its_doubtful_call_answered_without_one(caught: list[str]) -> None:
    room = make([Turn(calls=[("pay", {"cents": 1})]), Turn(text="Paid.")], [pay])
    run = room.play()
    approval = only_approval(run)
    approvals.approve(approval, user=SYSTEM, digest=approval.digest)
    ToolCall.objects.filter(run=run).update(status="running", tries=1, attempt=1)
    Run.objects.filter(pk=run.pk).update(status="running", attempt=1, lease_expires_at="2026-01-01T00:00:00Z")
    lapse(run)
    assert sweep().hinted == 1
    execution.drive(run.pk, Runtime("worker"))
    call = ToolCall.objects.get(run=run)
    assert call.status == "effect_unverified"
    unverified.resolve(run, call.call_id, "happened", user=SYSTEM, result="paid")
    assert caught == []


def test_the_trap_snaps_shut(caught: list[str], settings: LazySettings) -> None:
    with Redis.from_url(settings.REDIS_URL) as client:
        client.ping()
        assert caught == []
        with transaction.atomic():
            client.ping()
    assert len(caught) > 1
