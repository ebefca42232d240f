"""Transactions that lock several rows never wait for each other in a circle."""

from __future__ import annotations

from uuid import UUID

import pytest

from agentcore import SYSTEM, Decision
from agentcore.declaration import registry
from agentcore.models import Approval, Run, Thread
from agentcore.services import approvals, deletion, sending
from agentcore.streams.models import Stream
from agentcore.testing import Turn, run_until_idle
from tests.integration.decision_room import pay
from tests.integration.room import make, race, statements

ROUNDS = 12


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
    with statements() as seen:
        decide(rows)
    (held,) = [text for text in seen if "SET next_seq = next_seq FROM" in text]
    assert "ORDER BY run.id" in held
    assert seen.index(held) < min(seen.index(text) for text in seen if "agentcore_approval SET" in text)
    (written,) = [text for text in seen if "threads AS " in text]
    assert written.index("ORDER BY run.id") < written.index("ORDER BY stream.id")


@pytest.mark.django_db
def test_a_send_that_interrupts_locks_the_runs_before_the_thread_and_the_thread_before_its_log():
    room = make([Turn(text="one"), Turn(text="two")], on_busy="interrupt")
    sending.send(room.agent.definition, room.thread, "One", user=SYSTEM)
    with statements() as seen:
        sending.send(room.agent.definition, room.thread, "Two", user=SYSTEM)
    updates = (Run, Thread, Stream)
    first = [
        next(place for place, text in enumerate(seen) if f"UPDATE {model._meta.db_table} " in text.replace('"', ""))
        for model in updates
    ]
    assert first == sorted(set(first))


@pytest.mark.covers("fc:D1")
@pytest.mark.django_db
def test_a_deletion_locks_all_its_runs_before_the_thread_and_the_ended_ones_too(monkeypatch):
    room = make([Turn(text="one"), Turn(text="two")])
    ended = run_until_idle(room.agent.runs.send(room.thread, "One", user=SYSTEM))
    assert ended.status == "succeeded"
    live = room.agent.runs.send(room.thread, "Two", user=SYSTEM)
    held: list[tuple[set[UUID], int]] = []
    with statements() as seen:
        hold_all = deletion.fence.hold_all
        monkeypatch.setattr(
            deletion.fence,
            "hold_all",
            lambda ids, *rest: held.append((set(ids := [*ids]), len(seen))) or hold_all(ids, *rest),
        )
        assert deletion.remove(room.thread.pk)
    (locked, before) = held[0]
    assert locked == {ended.pk, live.pk}
    assert before < next(place for place, text in enumerate(seen) if "removal_due_at" in text and "UPDATE" in text)
