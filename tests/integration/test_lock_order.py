"""Transactions that lock several rows never wait for each other in a circle."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from agentcore import SYSTEM, registry
from agentcore.models import Approval, Run, Thread
from agentcore.services import approvals, sending
from agentcore.services.approvals import Decision
from agentcore.testing import Turn, run_until_idle
from tests.integration.decision_room import pay
from tests.integration.room import make, race

ROUNDS = 12


@pytest.fixture(autouse=True)
def _clean():
    with registry.isolated():
        yield


def waiting_runs(placed: str) -> list[Approval]:
    """Runs that wait for one approval each, made in this order in the threads the letters name."""
    room = make([Turn(calls=[("pay", {"cents": 1})])] * len(placed), [pay], on_busy="parallel")
    threads = {letter: room.agent.threads.create(user=SYSTEM) for letter in sorted(set(placed))}
    runs = [run_until_idle(room.agent.runs.send(threads[letter], "Pay", user=SYSTEM)) for letter in placed]
    return [Approval.objects.get(run=run) for run in runs]


def decide(rows: list[Approval]) -> None:
    approvals.decide([Decision(row.pk, "deny", row.digest) for row in rows], user=SYSTEM)


@pytest.mark.django_db(transaction=True)
def test_batches_of_decisions_over_two_threads_never_wait_for_each_other():
    for _ in range(ROUNDS):
        with registry.isolated():
            rows = waiting_runs("abba")
        first, second, third, fourth = rows
        assert race(lambda a=first, b=third: decide([a, b]), lambda a=second, b=fourth: decide([a, b])) == [None, None]
        assert not Approval.objects.pending().exists()


@pytest.mark.django_db
def test_a_batch_locks_its_runs_by_id_and_writes_the_threads_logs_in_one_order():
    rows = waiting_runs("abba")
    with CaptureQueriesContext(
        connection,
    ) as queries:
        decide(rows)
    held = [query["sql"] for query in queries if "SET next_seq = next_seq WHERE" in query["sql"]]
    assert len(held) == len(rows)
    assert held == sorted(held)
    logs = [
        str(pk)
        for pk in Thread.objects.filter(runs__isnull=False)
        .distinct()
        .order_by("stream_id")
        .values_list("stream_id", flat=True)
    ]
    written = [
        query["sql"] for query in queries if "agentcore_streams_stream" in query["sql"] and "UPDATE" in query["sql"]
    ]
    order = [log for sql in written for log in logs if log.replace("-", "") in sql.replace("-", "")]
    assert order == sorted(order) and set(order) == set(logs)


@pytest.mark.django_db
def test_a_send_that_interrupts_locks_the_runs_before_the_thread():
    room = make([Turn(text="one"), Turn(text="two")], on_busy="interrupt")
    sending.send(room.agent.definition, room.thread, "One", user=SYSTEM)
    with CaptureQueriesContext(connection) as queries:
        sending.send(room.agent.definition, room.thread, "Two", user=SYSTEM)
    locks = [
        table
        for query in queries
        for table in (Run._meta.db_table, Thread._meta.db_table, "agentcore_streams_stream")
        if query["sql"].replace('"', "").startswith(f"UPDATE {table} ")
    ]
    first_thread = locks.index(Thread._meta.db_table)
    assert locks[0] == Run._meta.db_table
    assert "agentcore_streams_stream" not in locks[:first_thread]
