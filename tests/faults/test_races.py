"""The two races that were thought about longest: a decision against the suspend, and batches against everybody."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import AbstractUser
from django.db import connection, connections

from agentcore import SYSTEM, Decision
from agentcore.journal.commit import Commit, Request, RowHeld
from agentcore.journal.writer import commit_batch
from agentcore.models import Approval, Run, ToolCall
from agentcore.services import approvals, runs, sending
from agentcore.states import RunStatus
from agentcore.testing import ScriptedModel, Turn, check_invariants, run_until_idle
from agentcore.testing.faults.plans import Marks
from agentcore.values.events import TextDelta as TextLogged
from tests.faults import postgres
from tests.faults.runs import (
    LONG,
    assert_log_is_whole,
    events,
    failpoints,
    send,
    settings_of_process,
    status,
    types,
    wait_for_success,
)
from tests.integration import room
from tests.integration.decision_room import pay
from tests.stack import Stack, wait_for
from tests.testapp import agents

WORKERS = ["concurrent", "stock"]
TRANSACTIONS, IN_A_SAMPLE = 10_000, 1_500
THREADS, RUNS_EACH, BATCH = 3, 4, 3


# --- a decision against the suspend -------------------------------------------------------------------------------


@pytest.mark.own_workers
@pytest.mark.covers("fault:A4", "fault:W10", "promise:P1", "promise:P6")
@pytest.mark.parametrize("kind", WORKERS)
@pytest.mark.parametrize(("point", "waits"), [("before_suspend", 0), ("at_wait", 1)])
def test_a_decision_between_the_results_and_the_suspend_is_no_lost_wake_up(
    stack: Stack, make_thread: Callable[..., Any], kind: str, point: str, waits: int
) -> None:
    run = send(agents.mixed, make_thread("mixed"), "gated idempotent")
    marks = Marks(stack.directory)
    stack.worker(kind, **failpoints(stack.directory, **{point: "hold"}))
    wait_for(lambda: marks.reached(point), LONG, "the worker to have committed the results")
    assert ToolCall.objects.get(run=run, name="idempotent").status == "succeeded"
    approval = run.approvals.get()
    agents.mixed.tools.approve(approval.pk, user=SYSTEM, digest=approval.digest)
    assert status(run) == ("pending" if waits else "running")
    marks.release(point)
    # Nobody sweeps beside a stock worker: the run goes on by itself, or by the decision's own hint.
    wait_for_success(run)
    assert types(run).count("run.waiting") == types(run).count("run.resumed") == waits
    assert Run.objects.get(pk=run.pk).attempt == 1 + waits
    assert check_invariants([run.pk]) == []


# --- batches against each other and against the web ---------------------------------------------------------------


@pytest.fixture
def nervous_sessions(transactional_db: None) -> Iterator[None]:
    """New sessions look for a deadlock after a tenth of a second."""
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    with postgres.session() as admin:
        admin.execute(f"ALTER DATABASE {name} SET deadlock_timeout = '100ms'")
        connection.close()
        yield
        admin.execute(f"ALTER DATABASE {name} RESET deadlock_timeout")


class Crowd:
    """Actors that write at once, until they have made so many transactions together."""

    def __init__(self, transactions: int) -> None:
        self.left = transactions
        self.made = 0
        self.faults: list[BaseException] = []
        self._lock = threading.Lock()

    def play(self, *actors: Callable[[], None]) -> None:
        threads = [threading.Thread(target=self._act, args=[actor], daemon=True) for actor in actors]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(500)
            assert not thread.is_alive(), "somebody waits for ever"
        assert self.faults == []

    def _act(self, actor: Callable[[], None]) -> None:
        try:
            while self._goes_on():
                actor()
        except BaseException as error:  # noqa: BLE001 - the test shows it
            self.faults.append(error)
        finally:
            connections.close_all()

    def _goes_on(self) -> bool:
        with self._lock:
            self.left -= 1
            self.made += 1
            return self.left >= 0 and not self.faults


@pytest.mark.longer
@pytest.mark.postgres
@pytest.mark.timeout(600)
@pytest.mark.covers("fault:D4", "promise:P2")
def test_batches_of_two_journals_and_the_web_never_deadlock(
    nervous_sessions: None, pytestconfig: pytest.Config
) -> None:
    transactions = IN_A_SAMPLE if pytestconfig.getoption("take") == "test" else TRANSACTIONS
    scene = room.make(ScriptedModel([Turn(calls=[("pay", {"cents": 1})])] * 500), [pay], on_busy="parallel")
    agent = scene.agent
    threads = [agent.threads.create(user=SYSTEM) for _ in range(THREADS)]
    claimed = [
        room.claim(agent.runs.send(thread, "Go", user=SYSTEM).pk, f"journal {turn % 2}")
        for turn, thread in enumerate(threads * RUNS_EACH)
    ]
    waiting = [run_until_idle(agent.runs.send(thread, "Pay", user=SYSTEM)) for thread in threads * 6]
    before = deadlocks()
    assert provoked_deadlock() and wait_for(lambda: deadlocks() > before, 20, "a deadlock to be counted")
    before = deadlocks()
    crowd, written = Crowd(transactions), [0, 0]

    def journal(number: int) -> Callable[[], None]:
        own, dice = claimed[number::2], random.Random(number)

        def commit() -> None:
            batch = dice.sample(own, BATCH)
            requests = [
                Request(
                    claim,
                    Commit(events=[TextLogged(1, "x")], thread_events=[claim.changed(RunStatus.RUNNING)]),
                )
                for claim in batch
            ]
            for outcome in commit_batch(requests):
                if not isinstance(outcome, RowHeld):
                    assert not isinstance(outcome, BaseException), outcome
                    written[number] += 1

        return commit

    def web(number: int) -> Callable[[], None]:
        dice = random.Random(f"web {number}")
        mine = waiting[number::2]

        def write() -> None:
            act = dice.randrange(3)
            if act == 0:
                run = sending.send(agent.definition, dice.choice(threads), "Go", user=SYSTEM)
                mine.append(run)
            elif act == 1:
                rows = list(Approval.objects.pending().filter(run__in=[run.pk for run in mine])[:3])
                dice.shuffle(rows)
                if rows:
                    approvals.decide([Decision(row.pk, "deny", row.digest) for row in rows], user=SYSTEM)
            elif mine:
                runs.cancel(mine.pop(dice.randrange(len(mine))), user=SYSTEM)

        return write

    crowd.play(journal(0), journal(1), web(0), web(1))
    assert crowd.made >= transactions
    assert min(written) > transactions / 20, "the journals got nowhere"
    time.sleep(1.5)  # a session tells of its deadlocks once a second
    assert deadlocks() == before
    for claim in claimed:
        seen = [event["seq"] for event in read_all(claim.run_id)]
        assert seen == list(range(len(seen)))


def read_all(run_id: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while page := agents.echo.events.read(run_id, user=SYSTEM, after=len(found) - 1, limit=1000).events:
        found += page
    return found


def deadlocks() -> int:
    with postgres.session() as admin:
        row = admin.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").fetchone()
    return int(row[0]) if row else 0


def provoked_deadlock() -> bool:
    """Two sessions that lock two rows in opposite orders: so that it is known that deadlocks are counted."""
    first, second = Run.objects.order_by("pk").values_list("pk", flat=True)[:2]
    lock = "SELECT 1 FROM agentcore_run WHERE id = %s FOR UPDATE"
    outcomes: list[BaseException | None] = []
    barrier = threading.Barrier(2)

    def take(*rows: Any) -> None:
        with postgres.session() as session:
            session.autocommit = False
            session.execute(lock, [rows[0]])
            barrier.wait(10)
            try:
                session.execute(lock, [rows[1]])
                outcomes.append(None)
            except psycopg.errors.DeadlockDetected as error:
                outcomes.append(error)
            session.rollback()

    rivals = [threading.Thread(target=take, args=rows) for rows in ((first, second), (second, first))]
    for rival in rivals:
        rival.start()
    for rival in rivals:
        rival.join(20)
    return any(outcomes)


@pytest.mark.own_workers
@pytest.mark.postgres
@pytest.mark.covers("fault:D2", "promise:P1")
def test_a_held_row_delays_its_own_run_only(stack: Stack, user: AbstractUser, make_thread: Callable[..., Any]) -> None:
    batch = [send(agents.slow, make_thread("slow", title=str(number)), str(number)) for number in range(8)]
    stack.worker("concurrent", **settings_of_process(LEASE_SECONDS=30, HINT_GRACE_SECONDS=1, SWEEP_SECONDS=0.5))
    for run in batch:
        wait_for(lambda run=run: "text.delta" in types(run), LONG, "the run to speak")
    held, others = batch[3], batch[:3] + batch[4:]
    with postgres.session() as holder:
        holder.autocommit = False
        holder.execute("SELECT 1 FROM agentcore_run WHERE id = %s FOR UPDATE", [held.pk])
        said = len(events(held))
        for run in others:
            wait_for(lambda run=run: status(run) == "succeeded", 20, "the others to succeed")
        assert len(events(held)) == said and status(held) == "running"
        holder.rollback()
    wait_for(lambda: status(held) == "succeeded", LONG, "the held run to succeed")
    for run in batch:
        assert_log_is_whole(run)
        assert Run.objects.get(pk=run.pk).attempt == 1
    assert "".join(event["text"] for event in events(held) if event["type"] == "text.delta").split() == [
        str(number) for number in range(40)
    ]
