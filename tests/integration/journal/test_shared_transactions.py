"""The journal: all the runs of a process in shared transactions, and what is wrong with one hurts that one only."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from django.db import OperationalError

from agentcore import SYSTEM, Agent
from agentcore.engine.runtime import Runtime
from agentcore.journal import write
from agentcore.journal.batch import Batch
from agentcore.journal.commit import Commit, Request
from agentcore.models import Message, Run, ToolCall
from agentcore.services import dispatch
from agentcore.testing.faults.plans import armed
from agentcore.values.events import TextDelta
from tests.integration.journal.together import RUNS, EachItsOwn, add, drive
from tests.integration.room import assert_ended_once, claim, commit, fresh, log, race

pytestmark = pytest.mark.django_db(transaction=True)


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
    real = Batch._insert

    def refused(batch: Batch, run_id: Any, row: Any, otherwise: Any) -> None:
        if run_id == sick and isinstance(row, ToolCall):
            otherwise = {**otherwise, "status": "impossible"}
        real(batch, run_id, row, otherwise)

    monkeypatch.setattr(Batch, "_insert", refused)
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


def test_the_entries_of_one_run_are_written_in_the_order_they_were_given(sent: list[Run]) -> None:
    taken = claim(sent[0].pk)
    assert taken is not None

    async def say_thirty_words() -> None:
        runtime = Runtime("worker", alone=False, own_threads=True)
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


def test_a_commit_under_a_claim_says_what_the_row_gave(sent: list[Run]) -> None:
    taken = claim(sent[0].pk)
    assert taken is not None
    before = fresh(sent[0])
    given = commit(taken, Commit(events=[TextDelta(1, "a"), TextDelta(1, "b")]))
    assert given.first_seq == before.next_seq and not given.cancel_requested
    assert fresh(sent[0]).next_seq == before.next_seq + 2
