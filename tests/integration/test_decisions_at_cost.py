"""Decisions on many runs: as many statements as for two, one round trip for their hints, and nothing decided late."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, connections, transaction

from agentcore import SYSTEM, Decision
from agentcore.database.dialect import DbNow
from agentcore.declaration import registry
from agentcore.exceptions import ApprovalExpired
from agentcore.models import Approval, Run
from agentcore.services import approvals, dispatch
from agentcore.streams.models import Stream
from agentcore.testing import Turn, run_until_idle
from tests.integration.decision_room import PAID, pay
from tests.integration.room import drive_to_the_end, fresh, make, race, statements

pytestmark = pytest.mark.usefixtures("nothing_paid")

HELD = 1.5


def waiting(count: int, *, threads: int = 1, calls: int = 1) -> list[Approval]:
    """The approvals of so many runs."""
    turns = [Turn(calls=[("pay", {"cents": cents + 1}) for cents in range(calls)])] * count
    room = make(turns, [pay], on_busy="parallel")
    places = [room.thread, *(room.agent.threads.create(user=SYSTEM) for _ in range(threads - 1))]
    for number in range(count):
        run = room.agent.runs.send(places[number % threads], "Pay", user=SYSTEM)
        assert run_until_idle(run).status == "waiting"
    return list(Approval.objects.pending().order_by("run_id", "pk"))


def expires_in(row: Approval, seconds: float) -> None:
    Approval.objects.filter(pk=row.pk).update(expires_at=DbNow() + timedelta(seconds=seconds))


# --- cost -------------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.covers("fc:F3")
@pytest.mark.parametrize("threads", [1, 2], ids=["one thread", "two threads"])
@pytest.mark.parametrize("verdict", ["approve", "deny"])
def test_a_decision_on_25_runs_takes_as_many_statements_as_on_two(operator: Any, verdict: Any, threads: int) -> None:
    def count(runs: int) -> int:
        with registry.isolated():
            rows = waiting(runs, threads=threads)
            assert len(rows) == runs
            person = get_user_model().objects.get(pk=operator.pk)  # without the permissions cached
            with statements() as seen:
                approvals.decide([Decision(row.pk, verdict, row.digest, "All alike.") for row in rows], user=person)
            assert {fresh(row.run).status for row in rows} == {"pending"}
            assert all(
                row.run.dispatched_at
                for row in Approval.objects.select_related("run").filter(run__in=[row.run for row in rows])
            )
        return len(seen)

    assert count(25) == count(2)


@pytest.mark.django_db
@pytest.mark.covers("fc:F3")
def test_the_same_decisions_again_cost_as_little_and_change_nothing(operator: Any) -> None:
    def count(runs: int) -> int:
        with registry.isolated():
            batch = [Decision(row.pk, "approve", row.digest) for row in waiting(runs)]
            approvals.decide(batch, user=operator)
            before = set(Run.objects.values_list("pk", "next_seq"))
            with statements() as seen:
                approvals.decide(batch, user=operator)
            assert set(Run.objects.values_list("pk", "next_seq")) == before
        return len(seen)

    assert count(25) == count(2)


@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("fc:F3")
def test_the_hints_of_a_batch_go_out_after_the_commit_in_one_round_trip(
    monkeypatch: pytest.MonkeyPatch, operator: Any
) -> None:
    rows = waiting(5)
    sent: list[tuple[Any, ...]] = []
    monkeypatch.setattr(dispatch, "enqueue", lambda *run_ids: not sent.append((connection.in_atomic_block, *run_ids)))
    approvals.decide([Decision(row.pk, "approve", row.digest) for row in rows], user=operator)
    assert sent == [(False, *sorted(row.run_id for row in rows))]


@pytest.mark.covers("fc:F3", "fc:C4")
def test_many_hints_are_one_exchange_with_redis(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    from uuid import uuid4

    import redis

    dispatch.forget()
    ids = [uuid4() for _ in range(25)]
    assert dispatch.enqueue(ids[0])  # what a new connection says first
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        exchanges: list[int] = []
        real = redis.connection.AbstractConnection.send_packed_command
        monkeypatch.setattr(
            redis.connection.AbstractConnection,
            "send_packed_command",
            lambda self, *args, **options: (exchanges.append(1), real(self, *args, **options))[1],
        )
        before = client.llen("rq:queue:agentcore")
        exchanges.clear()
        assert dispatch.enqueue(*ids)
        assert len(exchanges) == 1
        assert client.llen("rq:queue:agentcore") == before + 25
        client.delete("rq:queue:agentcore")
    dispatch.forget()


@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("fc:F3")
def test_batches_that_share_runs_in_any_order_do_not_stop_each_other(operator: Any) -> None:
    for _ in range(6):
        with registry.isolated():
            rows = waiting(8, threads=2)
            batch = [Decision(row.pk, "approve", row.digest) for row in rows]
            outcomes = race(
                lambda batch=batch: approvals.decide(batch, user=operator),
                lambda batch=batch: approvals.decide(batch[::-1], user=operator),
                lambda batch=batch: approvals.decide(batch[::2], user=operator),
            )
            assert [outcome for outcome in outcomes if isinstance(outcome, BaseException)] == []
            assert not Approval.objects.pending().exists()


# --- time -------------------------------------------------------------------------------------------------------------


class Holder:
    """Somebody who holds rows for a while, on a connection of their own."""

    def __init__(self, rows: Any, seconds: float) -> None:
        self.rows, self.seconds, self.has = rows, seconds, threading.Event()
        self.thread = threading.Thread(target=self._hold)

    def __enter__(self) -> Holder:
        self.thread.start()
        assert self.has.wait(20)
        return self

    def __exit__(self, *exc: object) -> None:
        self.thread.join(60)

    def _hold(self) -> None:
        try:
            with transaction.atomic():
                self.rows.update(pk=self.rows.first().pk) if connection.vendor == "sqlite" else list(
                    self.rows.select_for_update(no_key=True)
                )
                self.has.set()
                time.sleep(self.seconds)
        finally:
            connections.close_all()


def held_rows(what: str, row: Approval) -> Any:
    return {
        "run": Run.objects.filter(pk=row.run_id),
        "log": Stream.objects.filter(pk=row.run.thread.stream_id),
    }[what]


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("fc:C3")
@pytest.mark.parametrize("what", ["run", "log"])
@pytest.mark.parametrize("first", [True, False], ids=["the first expires", "the second expires"])
def test_an_approval_that_expires_while_its_batch_waits_for_a_row_is_refused(
    operator: Any, what: str, first: bool
) -> None:
    rows = waiting(2, threads=2)
    held, expiring = rows[1], rows[0 if first else 1]
    expires_in(expiring, HELD / 2)
    with Holder(held_rows(what, held), HELD), pytest.raises(ApprovalExpired):
        approvals.decide([Decision(row.pk, "approve", row.digest) for row in rows], user=operator)
    assert [fresh(row).status for row in rows] == ["pending", "pending"]
    assert {fresh(row.run).status for row in rows} == {"waiting"}
    assert PAID == []


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("fc:C3")
def test_a_batch_that_waited_and_is_in_time_is_taken(operator: Any) -> None:
    rows = waiting(2, threads=2)
    expires_in(rows[0], HELD * 20)
    with Holder(held_rows("run", rows[1]), HELD):
        approvals.decide([Decision(row.pk, "approve", row.digest) for row in rows], user=operator)
    for row in map(fresh, rows):
        assert row.status == "approved" and row.decided_at < row.expires_at
        assert drive_to_the_end(row.run).tool_calls.get().status == "succeeded"


@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("fc:C3")
def test_no_decision_is_stamped_later_than_its_approval_expires(operator: Any) -> None:
    """Decided at every distance from its expiry: what is taken was in time, what is refused was left alone."""
    rows = waiting(1, calls=40)
    outcomes = {"taken": 0, "refused": 0}
    for number, row in enumerate(rows):
        expires_in(row, number * 0.002)
        try:
            approvals.approve(row, user=operator, digest=row.digest)
        except ApprovalExpired:
            outcomes["refused"] += 1
            assert fresh(row).status == "pending"
        else:
            outcomes["taken"] += 1
            taken = fresh(row)
            assert taken.decided_at < taken.expires_at
    assert sum(outcomes.values()) == len(rows) and outcomes["refused"]


@pytest.mark.django_db
@pytest.mark.covers("fc:C3")
def test_an_approval_that_expires_between_the_look_and_the_decision_is_refused(
    operator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (row,) = waiting(1)
    expires_in(row, 0.3)
    really = approvals.write.record_all

    def late(entries: Any) -> Any:
        while not Approval.objects.expired(DbNow()).exists():
            time.sleep(0.01)
        return really(entries)

    monkeypatch.setattr(approvals.write, "record_all", late)
    with pytest.raises(ApprovalExpired):
        approvals.approve(row, user=operator, digest=row.digest)
    assert fresh(row).decided_at is None
