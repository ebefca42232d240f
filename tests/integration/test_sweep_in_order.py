"""A pass of the sweep settles first and hints then; no row that it cannot deal with keeps another one waiting."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from agentcore import SYSTEM
from agentcore.models import Approval, Run
from agentcore.services import dispatch
from agentcore.services import sweep as service
from agentcore.services.sweep import sweep
from agentcore.testing import Turn
from tests.integration.decision_room import pay
from tests.integration.room import AGO, Room, claim, fresh, lapse, make, statements

pytestmark = [pytest.mark.django_db, pytest.mark.covers("fc:C4")]

BATCH = 5


class Queue:
    """What Redis was asked for: the runs of each round trip."""

    def __init__(self) -> None:
        self.down, self.asked = False, []

    def enqueue(self, *run_ids: Any) -> bool:
        self.asked.append(list(run_ids))
        return not self.down


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    found = Queue()
    monkeypatch.setattr(dispatch, "enqueue", found.enqueue)
    monkeypatch.setattr(service, "BATCH", BATCH)
    return found


def unhinted(room: Room, count: int) -> list[Run]:
    """Runs that nobody was told of, in threads of their own."""
    sent = [room.agent.runs.send(room.agent.threads.create(user=SYSTEM), "Go", user=SYSTEM) for _ in range(count)]
    Run.objects.filter(pk__in=[run.pk for run in sent]).update(dispatched_at=None, dispatch_count=0)
    return sent


def test_while_redis_is_away_what_needs_no_worker_is_settled_behind_any_number_of_hints(queue: Queue) -> None:
    room = make([Turn(calls=[("pay", {"cents": 1})])] * 2, [pay])
    unhinted(room, 3 * BATCH)
    undecided = room.play()
    Approval.objects.filter(run=undecided).update(expires_at=timezone.now() - AGO)
    (forgotten,) = unhinted(room, 1)
    Run.objects.filter(pk=forgotten.pk).update(status="waiting")
    (poisonous,) = unhinted(room, 1)
    claim(poisonous.pk)
    lapse(poisonous)
    Run.objects.filter(pk=poisonous.pk).update(lost_leases=99)
    queue.down = True
    report = sweep()
    assert (report.hinted, report.expired, report.resumed, report.poisoned) == (0, 1, 1, 1)
    assert fresh(undecided).status == fresh(forgotten).status == "pending"
    assert fresh(poisonous).poisoned_at is not None


def test_hints_that_failed_go_to_the_back_and_all_of_a_pass_are_one_round_trip(queue: Queue) -> None:
    ids = [run.pk for run in unhinted(make([]), 3 * BATCH)]
    queue.down = True
    for number in range(3):
        assert sweep().hinted == 0
        assert queue.asked[number] == ids[number * BATCH : (number + 1) * BATCH]
    assert sweep().hinted == 0 and queue.asked[3] == ids[:BATCH]
    assert len(set(Run.objects.values_list("hint_failed_at", flat=True))) == 3, "one time a pass"
    queue.down = False
    assert [sweep().hinted for _ in range(4)] == [BATCH, BATCH, BATCH, 0]
    assert [run_id for asked in queue.asked[4:] for run_id in asked] == [*ids[BATCH:], *ids[:BATCH]]
    assert set(Run.objects.values_list("dispatch_count", flat=True)) == {1}


@pytest.mark.usefixtures("long_lease")
def test_a_failed_hint_keeps_a_run_behind_others_only_until_one_goes_out_or_it_is_claimed(queue: Queue) -> None:
    room = make([])
    hinted, claimed = unhinted(room, 2)
    queue.down = True
    assert sweep().hinted == 0
    assert fresh(hinted).hint_failed_at is not None is not fresh(claimed).hint_failed_at
    queue.down = False
    claim(claimed.pk)
    assert fresh(claimed).hint_failed_at is None
    assert sweep().hinted == 1 and fresh(hinted).hint_failed_at is None
    lapse(claimed)
    Run.objects.filter(pk=hinted.pk).update(dispatched_at=None, dispatch_count=0)
    newer = unhinted(room, BATCH)
    ids = sorted([hinted.pk, claimed.pk, *(run.pk for run in newer)])
    assert sweep().hinted == BATCH and queue.asked[-1] == ids[:BATCH]
    assert sweep().hinted == 2 and queue.asked[-1] == ids[BATCH:]


def test_a_pass_sends_any_number_of_hints_with_as_many_statements(queue: Queue) -> None:
    def count(hints: int) -> int:
        Run.objects.all().update(status="canceled", finished_at=timezone.now())
        unhinted(room, hints)
        with statements() as seen:
            assert sweep().hinted == hints
        return len(seen)

    room = make([])
    assert count(BATCH) == count(1)


def test_rows_that_defy_a_pass_do_not_fill_it(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = unhinted(make([]), 2 * BATCH + 1)
    Run.objects.filter(pk__in=[run.pk for run in runs]).update(status="waiting")
    really = service._resume_or_end

    def resume(run_id: Any) -> str:
        if run_id != runs[-1].pk:
            raise RuntimeError("not this one")
        return really(run_id)

    monkeypatch.setattr(service, "_resume_or_end", resume)
    assert sweep().resumed == 1
    assert fresh(runs[-1]).status == "pending"


def test_a_run_that_was_hinted_for_weeks_keeps_no_other_from_its_hint(queue: Queue) -> None:
    old, new = unhinted(make([]), 2)
    Run.objects.filter(pk=old.pk).update(dispatch_count=32_767, dispatched_at=timezone.now() - 100 * AGO)
    assert sweep().hinted == 2
    assert fresh(new).dispatch_count == 1
