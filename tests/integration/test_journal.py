"""The journal: all the runs of a process in shared transactions, and what is wrong with one hurts that one only."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import OperationalError, connections, transaction

from agentcore import SYSTEM, Agent, tool
from agentcore.engine import snapshot
from agentcore.engine.runtime import Runtime
from agentcore.journal import fence, write
from agentcore.journal.commit import Claim, Commit, Request
from agentcore.models import Message, Run
from agentcore.services import dispatch, events, execution
from agentcore.states import RunStatus
from agentcore.streams.models import Stream
from agentcore.testing import ScriptedModel, Turn
from agentcore.testing.faults.plans import armed
from agentcore.values.events import RunStarted, TextDelta
from tests.integration.room import assert_ended_once, claim, commit, fresh, log, race
from tests.stack import wait_for

pytestmark = pytest.mark.django_db(transaction=True)
RUNS = 12


@tool(effect="pure")
async def add(a: int, b: int) -> int:
    """Add."""
    return a + b


def turns() -> list[Turn]:
    return [Turn(calls=[("add", {"a": 1, "b": 2})]), Turn(deltas=["It ", "is ", "three."])]


class EachItsOwn:
    """Plays the same script for every run, from its beginning."""

    name, provider = "each", "tests"

    def __init__(self, make: Callable[[], list[Turn]] = turns) -> None:
        self._make = make
        self._scripts: dict[Any, ScriptedModel] = {}

    def stream(self, request: Any) -> Any:
        return self._scripts.setdefault(request.run_id, ScriptedModel(self._make())).stream(request)


@pytest.fixture
def agent() -> Agent:
    """An agent that asks for one tool, and then says three words."""
    return Agent(name="test", model=EachItsOwn(), tools=[add], on_busy="parallel")


@pytest.fixture
def sent(agent: Agent, long_lease: None) -> list[Run]:
    """Runs that wait, each in a thread of its own."""
    return [agent.runs.send(agent.threads.create(user=SYSTEM), "Add.", user=SYSTEM) for _ in range(RUNS)]


def drive(runs: list[Run], during: Callable[[], None] = lambda: None) -> list[Any]:
    """Drive runs on one event loop, as the concurrent worker does, on a thread of its own."""

    async def together() -> list[Any]:
        runtime = Runtime("worker", alone=False)
        try:
            driving = [asyncio.create_task(execution.adrive(run.pk, runtime)) for run in runs]
            await asyncio.to_thread(during)
            return await asyncio.gather(*driving, return_exceptions=True)
        finally:
            await runtime.aclose()

    (outcomes,) = race(lambda: asyncio.run(together()))
    if isinstance(outcomes, BaseException):
        raise outcomes
    return list(outcomes)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many runs each transaction of the journal was about."""
    sizes: list[int] = []
    real = write.write

    def counting(orders: Any) -> Any:
        sizes.append(len(orders))
        return real(orders)

    monkeypatch.setattr(write, "write", counting)
    return sizes


def test_many_runs_share_transactions(sent: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = counted(monkeypatch)
    assert drive(sent) == ["ended"] * RUNS
    for run in sent:
        assert_ended_once(run, "succeeded")
        assert Message.objects.filter(run=run, author_kind="agent").last().text == "It is three."  # type: ignore[union-attr]
    assert sum(sizes) <= 5 * RUNS and len(sizes) < sum(sizes) / 2


def test_a_run_with_one_tool_is_five_commits(sent: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = counted(monkeypatch)
    assert drive(sent[:1]) == ["ended"]
    assert sizes == [1] * 5


@pytest.mark.usefixtures("long_lease")
@pytest.mark.parametrize("behind", [0, 1])
def test_the_end_of_a_run_sends_a_hint_only_to_the_one_that_waits_behind_it(
    behind: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    hinted: list[Any] = []
    agent = Agent(name="test", model=EachItsOwn(), tools=[add], on_busy="queue")
    thread = agent.threads.create(user=SYSTEM)
    first, *later = [agent.runs.send(thread, "Add.", user=SYSTEM) for _ in range(1 + behind)]
    real = dispatch.hint_next
    monkeypatch.setattr(dispatch, "hint_next", lambda *ended: (asked.append(ended), real(*ended)))
    monkeypatch.setattr(dispatch, "hint", hinted.append)
    assert drive([first]) == ["ended"]
    assert hinted == [run.pk for run in later]
    assert asked == [(first.pk,)] * behind


def test_what_a_database_refuses_of_one_run_ends_that_run_only(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [agent.runs.send(agent.threads.create(user=SYSTEM), "Add.", user=SYSTEM) for _ in range(4)]
    sick = runs[1].pk
    real = write._inserts

    def refusing(rows: Any) -> Any:
        if any(getattr(row, "run_id", None) == sick and type(row).__name__ == "ToolCall" for row in rows):
            for row in rows:
                if getattr(row, "run_id", None) == sick and hasattr(row, "call_id"):
                    row.effect = "no such effect, and too long for its column"
                    row.status = "impossible"
        return real(rows)

    monkeypatch.setattr(write, "_inserts", refusing)
    assert drive(runs) == ["ended"] * 4
    assert [fresh(run).status for run in runs] == ["succeeded", "failed", "succeeded", "succeeded"]
    assert fresh(runs[1]).error_code == "internal_error"
    for run in runs:
        assert log(run)[-1]["type"] == "done"


@pytest.mark.covers("promise:P2")
def test_a_zombie_in_a_batch_loses_its_own_run_only(sent: list[Run]) -> None:
    claimed = [claim(run.pk) for run in sent[:3]]
    stale = claimed[1]
    assert stale is not None and all(claimed)
    Run.objects.filter(pk=stale.run_id).update(attempt=9)
    commit = Commit(events=[TextDelta(1, "hello")])
    requests = [Request(item, commit) for item in claimed if item is not None]
    from agentcore.journal.writer import commit_batch  # noqa: PLC0415 - the function under test

    outcomes = commit_batch(requests)
    assert [type(outcome).__name__ for outcome in outcomes] == ["Allocation", "LeaseLost", "Allocation"]
    assert [log(run)[-1]["type"] for run in sent[:3]] == ["text.delta", "run.started", "text.delta"]


@contextmanager
def somebody_holds(lock: Callable[[], object]) -> Iterator[Callable[[], None]]:
    """Hold in a transaction of another thread what `lock` locks, until what this yields is called."""
    locked, over = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            assert lock() is not None
            locked.set()
            assert over.wait(30)
        connections.close_all()

    def let_go() -> None:
        over.set()
        holder.join(10)

    holder = threading.Thread(target=hold, daemon=True)
    holder.start()
    assert locked.wait(10)
    try:
        yield let_go
    finally:
        let_go()


def drive_while_held(runs: list[Run], lock: Callable[[], object]) -> list[Any]:
    """Drive runs while somebody holds what the first one needs, until all the others have ended."""
    held, others = runs[0], runs[1:]

    def all_others_end() -> None:
        mine = Run.objects.filter(pk__in=[run.pk for run in others], status="succeeded")
        try:
            wait_for(lambda: mine.count() == len(others), 20, "the other runs to end")
            assert fresh(held).status == "pending"
        finally:
            let_go()
            connections.close_all()

    with somebody_holds(lock) as let_go:
        return drive(runs, all_others_end)


@pytest.mark.postgres
@pytest.mark.covers("fault:D8")
def test_one_held_row_delays_only_its_own_run(sent: list[Run]) -> None:
    assert drive_while_held(sent, lambda: fence.hold(sent[0].pk)) == ["ended"] * RUNS


@pytest.mark.postgres
@pytest.mark.covers("fault:D8")
def test_a_row_that_is_let_go_before_anybody_asks_who_held_it_is_claimed_after_all(
    sent: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    really, asked = fence.free, list[Any]()

    def ask(claims: Any) -> Any:
        let_go()
        asked.append([claim.run_id for claim in claims])
        return really(claims)

    with somebody_holds(lambda: fence.hold(sent[0].pk)) as let_go:
        monkeypatch.setattr(fence, "free", ask)
        assert drive(sent[:1]) == ["ended"]
    assert asked == [[sent[0].pk]]


@pytest.mark.postgres
def test_a_threads_log_that_somebody_writes_delays_only_the_runs_of_that_thread(sent: list[Run]) -> None:
    log_of = sent[0].thread.stream_id
    locked = Stream.objects.select_for_update(no_key=True)
    assert drive_while_held(sent, lambda: locked.get(pk=log_of)) == ["ended"] * RUNS


def test_the_entries_of_one_run_are_written_in_the_order_they_were_given(sent: list[Run]) -> None:
    taken = claim(sent[0].pk)
    assert taken is not None

    async def say_thirty_words() -> None:
        runtime = Runtime("worker", alone=False)
        answers = [runtime.journal.send(taken, Commit(events=[TextDelta(1, f"{n} ")])) for n in range(30)]
        await asyncio.gather(*answers)
        await runtime.aclose()

    race(lambda: asyncio.run(say_thirty_words()))
    said = [event["text"] for event in log(sent[0]) if event["type"] == "text.delta"]
    assert said == [f"{n} " for n in range(30)]


@pytest.mark.covers("fault:D2")
def test_a_database_that_is_away_for_a_moment_costs_no_run(sent: list[Run]) -> None:
    hits: Counter[str] = Counter()

    def away() -> None:
        hits["commit"] += 1
        if 3 <= hits["commit"] <= 5:
            raise OperationalError("the server closed the connection unexpectedly")

    with armed(before_commit=away):
        assert drive(sent[:4]) == ["ended"] * 4
    for run in sent[:4]:
        assert_ended_once(run, "succeeded")
        assert fresh(run).attempt == 1
    assert hits["commit"] > 5


def test_a_process_that_drains_gives_every_run_back_at_its_next_step(agent: Agent) -> None:
    run = agent.runs.send(agent.threads.create(user=SYSTEM), "Add.", user=SYSTEM)

    async def drain_in_the_first_step() -> Any:
        runtime = Runtime("worker", alone=False)
        with armed(after_model_start=runtime.drain):
            outcome = await execution.adrive(run.pk, runtime)
        await runtime.aclose()
        return outcome

    (outcome,) = race(lambda: asyncio.run(drain_in_the_first_step()))
    assert outcome == "released"
    after = fresh(run)
    assert (after.status, after.lost_leases, after.alone, after.lease_expires_at) == ("pending", 0, False, None)
    assert next(event for event in log(run) if event["type"] == "run.released")["reason"] == "drained"
    assert after.dispatched_at is not None, "nobody was told that the run may go on"
    assert drive([run]) == ["ended"]
    assert_ended_once(run, "succeeded")
    assert [event["step"] for event in log(run) if event["type"] == "step.finished"] == [1, 2, 3]


class Speaks:
    """Says a word, and then nothing for long."""

    name, provider = "speaks", "tests"

    async def stream(self, request: Any) -> Any:
        from agentcore.declaration import model as base  # noqa: PLC0415

        yield base.TextDelta("One ")
        await asyncio.sleep(60)


def test_a_run_whose_drive_is_cancelled_is_handed_over_in_the_middle_of_its_step(agent: Agent) -> None:
    talker = Agent(name="speaker", model=Speaks())
    run = talker.runs.send(talker.threads.create(user=SYSTEM), "Talk.", user=SYSTEM)

    def said() -> bool:
        return any(event["type"] == "text.delta" for event in events.read(run, user=SYSTEM).events)

    async def cancel_it() -> Any:
        runtime = Runtime("worker", alone=False)
        driving = asyncio.create_task(execution.adrive(run.pk, runtime))
        await asyncio.to_thread(lambda: (wait_for(said, 20, "its first word"), connections.close_all()))
        driving.cancel()
        outcome = await asyncio.gather(driving, return_exceptions=True)
        await runtime.aclose()
        return outcome

    (outcome,) = race(lambda: asyncio.run(cancel_it()))
    assert [type(item) for item in outcome] == [asyncio.CancelledError]
    after = fresh(run)
    assert (after.status, after.attempt, after.lost_leases) == ("pending", 1, 0)
    assert after.dispatched_at is not None
    assert [event["type"] for event in log(run)[-2:]] == ["step.reset", "run.released"]


def test_a_suspect_is_left_to_a_process_that_drives_nothing_else(sent: list[Run]) -> None:
    run = sent[0]
    assert claim(run.pk) is not None
    Run.objects.filter(pk=run.pk).update(lease_expires_at="2020-01-01T00:00:00Z", alone=False)
    assert drive([run]) == ["suspect"]
    assert fresh(run).attempt == 1
    (outcome,) = race(lambda: execution.drive(run.pk))
    assert outcome == "ended"
    assert (fresh(run).attempt, fresh(run).lost_leases) == (2, 0)


def test_a_suspect_that_is_given_back_before_its_next_step_stays_one(agent: Agent) -> None:
    run = agent.runs.send(agent.threads.create(user=SYSTEM), "Add.", user=SYSTEM)
    assert claim(run.pk) is not None
    Run.objects.filter(pk=run.pk).update(lease_expires_at="2020-01-01T00:00:00Z", alone=False)

    draining = Runtime("worker")
    draining.drain()
    (outcome,) = race(lambda: execution.drive(run.pk, draining))
    assert outcome == "released" and fresh(run).alone
    assert drive([run]) == ["suspect"]


@pytest.mark.parametrize("alone", [True, False])
def test_only_a_lease_lost_alone_counts(sent: list[Run], alone: bool) -> None:
    run = sent[0]
    assert claim(run.pk) is not None
    Run.objects.filter(pk=run.pk).update(lease_expires_at="2020-01-01T00:00:00Z", alone=alone)
    assert claim(run.pk) is not None
    assert fresh(run).lost_leases == int(alone)


def test_a_worker_that_cannot_renew_its_lease_stops_before_anybody_may_take_over(agent: Agent, settings: Any) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "LEASE_SECONDS": 1, "CANCEL_POLL_SECONDS": 0.1}
    talker = Agent(name="speaker", model=Speaks())
    run = talker.runs.send(talker.threads.create(user=SYSTEM), "Talk.", user=SYSTEM)
    began = threading.Event()

    def away() -> None:
        if began.is_set():
            raise OperationalError("cut off")

    with armed(after_model_start=began.set, before_commit=away):
        (outcome,) = drive([run])
    assert outcome == "lost"
    assert fresh(run).status == "running"


def test_a_commit_under_a_claim_says_what_the_row_gave(sent: list[Run]) -> None:
    taken = claim(sent[0].pk)
    assert taken is not None
    before = fresh(sent[0])
    given = commit(taken, Commit(events=[TextDelta(1, "a"), TextDelta(1, "b")]))
    assert given.first_seq == before.next_seq and not given.cancel_requested
    assert fresh(sent[0]).next_seq == before.next_seq + 2


def test_a_claim_whose_commit_was_lost_is_not_taken_for_that_of_a_worker_of_the_same_name(sent: list[Run]) -> None:
    def request() -> Request:
        taken = Claim.of(snapshot.load(sent[0].pk).run, "host:1", alone=False)
        started = Commit(events=[RunStarted(taken.attempt)], thread_events=[taken.changed(RunStatus.RUNNING)])
        return Request(taken, started, claims=True)

    lost, kept = request(), request()
    with transaction.atomic():
        lost.given = write.write([lost])[sent[0].pk]
        transaction.set_rollback(True)
    time.sleep(0.01)  # an event tells its time in milliseconds
    with transaction.atomic():
        kept.given = write.write([kept])[sent[0].pk]
    assert write.found_written([lost]) == {}
    assert write.found_written([kept]) == {sent[0].pk: kept.given}
