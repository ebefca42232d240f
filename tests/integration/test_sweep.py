"""The sweep: after one pass no live run is without an owner, and a second pass has nothing to do."""

from __future__ import annotations

import itertools
import random
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F
from django.utils import timezone

from agentcore import SYSTEM, tool
from agentcore.conf import get_settings
from agentcore.models import Approval, Run, ToolCall
from agentcore.services import dispatch, runs
from agentcore.services.sweep import sweep
from agentcore.testing import Turn
from tests.integration.room import AGO, fresh, make, race, types

GRACE = 1.0  # seconds, as the test settings have it


@tool(needs_approval=True)
def pay(cents: int) -> str:
    """Pay."""
    return "paid"


@pytest.fixture(autouse=True)
def sent(monkeypatch):
    """The hints that went out, in order; `down` makes Redis refuse them."""
    hints = Hints()
    monkeypatch.setattr(dispatch, "enqueue", hints.enqueue)
    assert get_settings().hint_grace_seconds == GRACE
    return hints


class Hints(list[Any]):
    down = False

    def enqueue(self, *run_ids: Any) -> bool:
        if not self.down:
            self.extend(run_ids)
        return not self.down


def orphans() -> set[Any]:
    return set(Run.objects.orphans(timezone.now()).values_list("pk", flat=True))


def ago(seconds: float) -> Any:
    return timezone.now() - timedelta(seconds=seconds)


# --- every state --------------------------------------------------------------------------------------------------

STATES: dict[str, list[dict[str, Any]]] = {
    "status": [{"status": "pending"}, {"status": "running"}, {"status": "waiting"}, {"status": "succeeded"}],
    "lease": [{"lease": -600}, {"lease": 600}],
    "due": [{"available_at": None}, {"available_at": -600}, {"available_at": 600}],
    # Ahead of now: just sent, however slow the machine is.
    "hint": [{"sent": None}, {"sent": 30}, {"sent": -600}],
    "hints": [{"dispatch_count": 0}, {"dispatch_count": 3}, {"dispatch_count": 99}],
    "lost": [{"lost_leases": 0}, {"lost_leases": 2}, {"lost_leases": 7}],
    "call": [{"call": None}, {"call": "waiting"}, {"call": "expired"}, {"call": "effect_unverified"}],
    "poison": [{"poisoned": False}, {"poisoned": True}],
    "cancel": [{"cancel": False}, {"cancel": True}],
}


def later(seconds: float | None) -> Any:
    return None if seconds is None else timezone.now() + timedelta(seconds=seconds)


def construct(room: Any, state: dict[str, Any]) -> Run:
    """A run in a state that a worker, a person or a crash can leave behind."""
    run = room.send()
    status = state["status"]
    values = {
        "status": status,
        "lease_expires_at": later(state["lease"]) if status == "running" else None,
        "available_at": later(state["available_at"]) if status == "pending" else None,
        "dispatched_at": later(state["sent"]),
        "dispatch_count": state["dispatch_count"],
        "lost_leases": state["lost_leases"],
        "poisoned_at": timezone.now() if state["poisoned"] and status == "waiting" else None,
        "cancel_requested_at": timezone.now() if state["cancel"] and status == "running" else None,
        "finished_at": timezone.now() if status == "succeeded" else None,
    }
    Run.objects.filter(pk=run.pk).update(**values)
    if state["call"] and status != "succeeded":
        step = run.steps.create(number=1, kind="model", attempt=1, status="finished", started_at=timezone.now())
        call = ToolCall.objects.create(
            run=run, step=step, position=0, call_id="c", name="pay", arguments="{}", digest="d", effect="unsafe"
        )
        if state["call"] == "effect_unverified":
            ToolCall.objects.filter(pk=call.pk).update(status="effect_unverified")
        else:
            ToolCall.objects.filter(pk=call.pk).update(status="waiting")
            expires = ago(5) if state["call"] == "expired" else timezone.now() + AGO
            Approval.objects.create(
                run=run, tool_call=call, arguments="{}", digest="d", requested_at=timezone.now(), expires_at=expires
            )
    return run


@pytest.mark.django_db
@pytest.mark.covers("promise:P1")
@pytest.mark.usefixtures("long_grace")
@pytest.mark.parametrize("seed", range(3))
def test_after_one_pass_the_orphan_query_returns_nothing_whatever_was_left_behind(seed):
    chance = random.Random(seed)
    alone = make([])
    together = [alone.agent.threads.create(user=SYSTEM) for _ in range(6)]
    every = [
        dict(itertools.chain(*(item.items() for item in combination)))
        for combination in itertools.product(*STATES.values())
    ]
    states = chance.sample(every, 60)
    made = []
    for state in states:
        thread = chance.choice([*together, alone.agent.threads.create(user=SYSTEM)])
        made.append((construct(type(alone)(alone.agent, alone.model, thread), state), state))
    orphaned = orphans()
    sweep()
    assert orphans() == set(), [state for run, state in made if run.pk in orphans()]
    assert not sweep().did_something
    for run, state in made:
        now = fresh(run)
        if state["status"] == "succeeded":
            assert now.status == "succeeded" and types(run) == ["run.created"]
        elif run.pk not in orphaned and state["call"] != "expired":
            assert now.status == state["status"], f"{state} had an owner, and was changed"
        assert not Approval.objects.expired(timezone.now()).filter(run=run).exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("promise:P1")
def test_four_sweeps_at_once_do_what_one_does(sent, settings):
    # However long four of them take on a busy machine: the hints of the first are in their grace.
    settings.AGENTCORE = {**settings.AGENTCORE, "HINT_GRACE_SECONDS": 60}
    room = make([Turn(calls=[("pay", {"cents": 1})])] * 3, [pay], on_busy="parallel")
    pending, lost, poisoned, expired = room.send(), room.send(), room.send(), room.play()
    sent.clear()
    Run.objects.filter(pk=pending.pk).update(dispatched_at=ago(600))
    Run.objects.filter(pk__in=[lost.pk, poisoned.pk]).update(status="running", lease_expires_at=ago(600))
    Run.objects.filter(pk__in=[lost.pk, poisoned.pk]).update(dispatched_at=None)
    Run.objects.filter(pk=poisoned.pk).update(lost_leases=9)
    Approval.objects.filter(run=expired).update(expires_at=ago(1))
    reports = race(*[sweep] * 4)
    assert not [report for report in reports if isinstance(report, BaseException)], reports
    assert sum(report.hinted for report in reports) == 2
    assert (sum(report.poisoned for report in reports), sum(report.expired for report in reports)) == (1, 1)
    assert sorted(sent) == sorted([pending.pk, lost.pk, expired.pk])
    assert types(poisoned).count("run.waiting") == 1
    assert types(expired).count("approval.response") == types(expired).count("run.resumed") == 1
    assert orphans() == set()


# --- hints --------------------------------------------------------------------------------------------------------


def age_hint(run: Run, seconds: float) -> None:
    Run.objects.filter(pk=run.pk).update(dispatched_at=F("dispatched_at") - timedelta(seconds=seconds))


@pytest.mark.django_db
@pytest.mark.covers("fault:R10")
def test_one_hint_is_outstanding_and_each_next_one_waits_twice_as_long(django_capture_on_commit_callbacks, sent):
    with django_capture_on_commit_callbacks(execute=True):
        run = make([]).send()
    assert sent == [run.pk]
    for wait in (1, 2, 4, 8, 16, 32, 32, 32):
        before = len(sent)
        age_hint(run, wait * GRACE - 0.5)
        sweep()
        assert len(sent) == before, "a hint went out before the last one had its grace"
        age_hint(run, 1)
        sweep()
        sweep()
        assert len(sent) == before + 1
        Run.objects.filter(pk=run.pk).update(dispatched_at=timezone.now())


@pytest.mark.django_db
@pytest.mark.usefixtures("long_grace")
@pytest.mark.covers("fault:R2")
def test_while_redis_is_away_every_pass_tries_again_and_the_first_success_counts_as_one(sent):
    run = make([]).send()
    Run.objects.filter(pk=run.pk).update(dispatched_at=ago(600), dispatch_count=1)
    sent.down = True
    for _ in range(3):
        assert sweep().hinted == 0
        assert fresh(run).dispatched_at is None
    sent.down = False
    assert sweep().hinted == 1
    assert sweep().hinted == 0
    assert sent == [run.pk]


@pytest.mark.django_db
@pytest.mark.usefixtures("long_grace")
def test_a_run_behind_another_in_its_thread_is_owned_and_gets_no_hint(sent):
    room = make([])
    first, second = room.send(), room.send()
    Run.objects.update(dispatched_at=ago(600))
    sweep()
    assert sent == [first.pk]
    runs.cancel(first, user=SYSTEM)
    assert fresh(second).dispatched_at > ago(5)
    assert sweep().hinted == 0


@pytest.mark.django_db
def test_a_run_that_is_due_later_is_left_alone_until_then(sent):
    run = make([]).send()
    Run.objects.filter(pk=run.pk).update(dispatched_at=None, available_at=timezone.now() + AGO)
    assert sweep().hinted == 0
    Run.objects.filter(pk=run.pk).update(available_at=ago(1))
    assert sweep().hinted == 1 and sent == [run.pk]


@pytest.mark.django_db
@pytest.mark.usefixtures("long_grace")
@pytest.mark.covers("promise:P1")
def test_a_waiting_run_that_waits_for_nothing_is_resumed(sent, django_capture_on_commit_callbacks):
    room = make([Turn(calls=[("pay", {"cents": 1})])], [pay])
    run = room.play()
    ToolCall.objects.filter(run=run).update(status="pending")
    with django_capture_on_commit_callbacks(execute=True):
        assert sweep().resumed == 1
    assert fresh(run).status == "pending" and types(run)[-1] == "run.resumed" and sent[-1] == run.pk
    assert not sweep().did_something
