"""Interrupting: one live run a thread whoever sends at once, and a repeated request interrupts nobody."""

from __future__ import annotations

import pytest

from agentcore import SYSTEM
from agentcore.declaration import registry
from agentcore.exceptions import Conflict, KeyConflict
from agentcore.models import Message, Run
from agentcore.services import sending
from agentcore.testing import Turn, run_until_idle
from tests.integration.room import assert_ended_once, fresh, make, race

ROUNDS = 10


@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("fault:A1")
def test_of_four_sends_at_once_one_run_lives_and_the_others_are_interrupted():
    for _ in range(ROUNDS):
        with registry.isolated():
            room = make([Turn("a")], on_busy="interrupt")
            sent = race(*[lambda n=n, room=room: room.send(f"m{n}", key=f"k{n}") for n in range(4)])
        assert not [item for item in sent if isinstance(item, BaseException)], sent
        runs = Run.objects.filter(thread=room.thread).order_by("number")
        assert [run.status for run in runs] == ["canceled"] * 3 + ["pending"]
        for run in runs[:3]:
            assert_ended_once(run, "canceled")
        assert Message.objects.filter(thread=room.thread).count() == 4


@pytest.mark.django_db
def test_a_run_that_came_after_the_look_at_the_live_ones_is_interrupted_too(monkeypatch):
    room = make([Turn("a")], on_busy="interrupt")
    first = room.send("first")
    looks = []
    really = sending.fence.hold_all

    def too_early(*args):
        looks.append(args)
        return {} if len(looks) == 1 else really(*args)

    monkeypatch.setattr(sending.fence, "hold_all", too_early)
    second = room.send("second")
    assert (fresh(first).status, second.status, len(looks)) == ("canceled", "pending", 2)
    assert (Message.objects.count(), second.number, second.order) == (2, 2, 1)


@pytest.mark.django_db
def test_a_send_that_never_gets_its_turn_is_refused_and_leaves_nothing(monkeypatch):
    room = make([], on_busy="interrupt")
    first = room.send("first")
    monkeypatch.setattr(sending.fence, "hold_all", lambda ids: {})
    with pytest.raises(Conflict, match="Send this one again"):
        room.send("second")
    assert fresh(first).status == "pending" and Message.objects.count() == Run.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.covers("api:I1", "fault:A1")
def test_a_request_that_is_delivered_again_interrupts_nothing_that_came_after_it():
    room = make([Turn("b")], on_busy="interrupt")
    first = room.send("first", key="k1")
    second = room.send("second", key="k2")
    assert room.send("first", key="k1") == first
    with pytest.raises(KeyConflict):
        room.send("another", key="k1")
    assert (fresh(first).status, fresh(second).status) == ("canceled", "pending")
    assert run_until_idle(second).status == "succeeded"


@pytest.mark.django_db
def test_another_agents_run_under_the_same_key_is_interrupted():
    room = make([], on_busy="interrupt")
    other = type(room.agent)(name="other", model=room.model, on_busy="parallel")
    theirs = other.runs.send(room.thread, "x", user=SYSTEM, key="k")
    mine = room.send("y", key="k")
    assert (fresh(theirs).status, mine.status) == ("canceled", "pending")
