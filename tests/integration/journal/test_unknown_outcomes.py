"""A commit whose end nobody saw: what it says is looked for, and written again only where it is not there."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection, transaction

from agentcore.engine import snapshot
from agentcore.journal import fence, unknown, write
from agentcore.journal.commit import (
    Allocation,
    Claim,
    Commit,
    Insert,
    LogEnd,
    Move,
    Moved,
    NotClaimed,
    Request,
    RowHeld,
)
from agentcore.journal.writer import commit_batch
from agentcore.models import Run, Step
from agentcore.states import RunStatus, StepKind, StepStatus
from agentcore.values.clock import NOW, Later
from agentcore.values.events import RunReleased, RunStarted, TextDelta
from tests.integration.journal.test_held_rows import somebody_holds
from tests.integration.room import claim, commit, log

pytestmark = pytest.mark.django_db(transaction=True)


def a_claim(run: Run, *, with_a_step: bool = True) -> Request:
    taken = Claim.of(snapshot.load(run.pk).run, "host:1", alone=False)
    step = Step(run_id=taken.run_id, number=1, kind=StepKind.MODEL, attempt=taken.attempt)
    started = Commit(
        events=[RunStarted(taken.attempt)],
        inserts=[Insert(step, {"started_at": NOW})] if with_a_step else [],
        thread_events=[taken.changed(RunStatus.RUNNING)],
    )
    return Request(taken, started, claims=True, unknown=True)


def written(request: Request) -> write.Answer:
    with transaction.atomic():
        return write.write([request])[request.row.run_id]


def test_a_claim_whose_commit_was_lost_is_not_taken_for_that_of_a_worker_of_the_same_name(sent: list[Run]) -> None:
    lost, kept = a_claim(sent[0]), a_claim(sent[0])
    with transaction.atomic():
        write.write([lost])
        transaction.set_rollback(True)
    given = written(kept)
    assert unknown.found_written([lost]) == {}
    assert unknown.found_written([kept]) == {sent[0].pk: given}


def test_a_claim_alone_whose_commit_was_lost_is_left_to_its_lease(sent: list[Run]) -> None:
    request = a_claim(sent[0], with_a_step=False)
    assert unknown.found_written([request]) == {}
    written(request)
    (answer,) = unknown.found_written([request]).values()
    assert isinstance(answer, NotClaimed)


@pytest.mark.parametrize("said", [TextDelta(1, "ha"), TextDelta(1, "\x01\x02\x03\x04"), RunReleased("slice", Later(2))])
@pytest.mark.parametrize("others_between", [0, 3])
def test_words_that_were_said_before_are_not_taken_for_those_whose_end_is_unknown(
    sent: list[Run], said: TextDelta, others_between: int
) -> None:
    taken = claim(sent[0].pk)
    assert taken is not None
    before = commit(taken, Commit(events=[said]))
    request = Request(taken, Commit(events=[said]), unknown=True, end=LogEnd(before.first_seq + 1))
    assert unknown.found_written([request]) == {} and request.seen_seq == before.first_seq + 1
    for _ in range(others_between):
        commit(taken, Commit(events=[TextDelta(1, "others")]))
    request.seen_seq = None
    given = written(request)
    assert unknown.found_written([request]) == {sent[0].pk: given}


def test_a_commit_that_arrives_after_it_was_looked_for_is_found_and_not_written_again(
    sent: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = claim(sent[0].pk)
    assert taken is not None
    late = Request(taken, Commit(events=[TextDelta(1, "late")]), unknown=True, end=LogEnd(1))
    really = unknown.found_written

    def looked_too_early(requests: Any) -> Any:
        found = really(requests)
        monkeypatch.setattr(unknown, "found_written", really)
        commit(taken, late.commit)  # it was on its way
        return found

    monkeypatch.setattr(unknown, "found_written", looked_too_early)
    (first,), (second,) = commit_batch([late]), commit_batch([late])
    assert isinstance(first, RowHeld) and isinstance(second, Allocation)
    assert [event["text"] for event in log(sent[0]) if event["type"] == "text.delta"] == ["late"]


def test_a_commit_whose_end_is_known_may_be_written_whatever_others_have_written_since(sent: list[Run]) -> None:
    bad, good = (claim(run.pk) for run in sent[:2])
    assert bad is not None and good is not None
    wrong = Move(Step(number=1), StepStatus.STARTED, {"status": StepStatus.FINISHED.value})
    refused = Request(bad, Commit(events=[TextDelta(1, "bad")], moves=[wrong]))
    held_back = Request(good, Commit(events=[TextDelta(1, "good")]))

    def decides() -> None:
        held = fence.hold(good.run_id)
        assert held is not None
        write.record(held, Commit(events=[TextDelta(1, "somebody else")]))

    if connection.vendor == "postgresql":  # SQLite has no rows to hold
        with somebody_holds(lambda: (decides(), True)):
            outcomes = commit_batch([refused, held_back])
        assert [type(outcome) for outcome in outcomes] == [Moved, RowHeld]
    (answer,) = commit_batch([held_back])
    assert isinstance(answer, Allocation)
