"""A commit whose end nobody saw: what it says is looked for, and written again only where it is not there."""

from __future__ import annotations

import pytest
from django.db import transaction

from agentcore.engine import snapshot
from agentcore.journal import unknown, write
from agentcore.journal.commit import Claim, Commit, Insert, NotClaimed, Request
from agentcore.models import Run, Step
from agentcore.states import RunStatus, StepKind
from agentcore.values.clock import NOW, Later
from agentcore.values.events import RunReleased, RunStarted, TextDelta
from tests.integration.room import claim, commit

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
    request = Request(taken, Commit(events=[said]), unknown=True, after=before.first_seq + 1)
    assert unknown.found_written([request]) == {} and request.seen_seq == before.first_seq + 1
    for _ in range(others_between):
        commit(taken, Commit(events=[TextDelta(1, "others")]))
    request.seen_seq = None
    given = written(request)
    assert unknown.found_written([request]) == {sent[0].pk: given}


def test_a_commit_that_may_still_arrive_is_written_only_onto_the_row_as_it_was_read(sent: list[Run]) -> None:
    taken = claim(sent[0].pk)
    assert taken is not None
    late = Request(taken, Commit(events=[TextDelta(1, "late")]), unknown=True, after=1)
    assert unknown.found_written([late]) == {}
    commit(taken, late.commit)  # it was on its way
    assert isinstance(written(late), write.RowHeld)
    assert list(unknown.found_written([late])) == [sent[0].pk]
