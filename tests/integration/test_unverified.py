"""Calls that may have happened: answerable after the end too, and not waited for without end."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.db.models import F
from django.urls import reverse
from django.utils import timezone

from agentcore import SYSTEM
from agentcore.conf import get_settings
from agentcore.exceptions import AlreadyDecided, Conflict, NotAllowed, RunEnded
from agentcore.models import Run, ToolCall
from agentcore.services import approvals, runs, sending, unverified
from agentcore.services.sweep import sweep
from agentcore.streams import log as streams
from agentcore.streams.models import Record
from agentcore.testing import run_until_idle
from tests.integration.doomed import WORLD, interrupted, make_waiting_for_gated
from tests.integration.room import assert_ended_once, die_driving, drive_to_the_end, fresh, log, only_approval, race

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nobody_died")]
DAY = timedelta(days=1)


def doubtful():
    """A run that waits to hear whether its call took effect, and the call."""
    room, run = interrupted("unsafe")
    assert drive_to_the_end(run).status == "waiting"
    return room, run, ToolCall.objects.get(run=run)


def canceled():
    room, run, call = doubtful()
    runs.cancel(run, user=SYSTEM)
    assert fresh(call).status == "effect_unverified"
    return room, fresh(run), call


def said(thread):
    events = [json.loads(entry.data) for entry in streams.read(thread.stream_id)]
    return [event for event in events if event["type"] == "thread.call"]


@pytest.mark.covers("fault:W5", "promise:P5")
@pytest.mark.parametrize("answer, status", [("happened", "succeeded"), ("give_up", "failed")])
def test_after_the_end_an_answer_is_recorded_and_the_run_can_be_retried(answer, status, operator):
    room, run, call = canceled()
    before = (log(run), fresh(run).next_seq)
    with pytest.raises(Conflict, match="Say first whether it did"):
        sending.retry(run, user=SYSTEM)
    type(room.thread).objects.filter(pk=room.thread.pk).update(owner=operator)
    told = {"result": {"receipt": 7}} if answer == "happened" else {"reason": "Looked it up."}
    unverified.resolve(run, call.call_id, answer, user=operator, **told)
    call.refresh_from_db()
    assert call.status == status and call.finished_at is not None
    assert call.result_json == ({"receipt": 7} if answer == "happened" else None)
    assert (log(run), fresh(run).next_seq) == before
    assert_ended_once(run, "canceled")
    (event,) = said(room.thread)
    about = {"run": str(run.pk), "call_id": call.call_id, "name": call.name, "status": status, "by": "olga"}
    assert {key: event[key] for key in about} == about
    with pytest.raises(AlreadyDecided):
        unverified.resolve(run, call.call_id, answer, user=operator)
    assert sending.retry(run, user=operator).retry_of_id == run.pk


def test_after_the_end_a_call_does_not_run_again():
    room, run, call = canceled()
    with pytest.raises(RunEnded, match="cannot run again"):
        unverified.resolve(run, call.call_id, "run_again", user=SYSTEM)
    assert fresh(call).status == "effect_unverified" and said(room.thread) == []


def test_after_the_end_too_only_who_may_decide_answers(user):
    room, run, call = canceled()
    type(room.thread).objects.filter(pk=room.thread.pk).update(owner=user)
    with pytest.raises(NotAllowed):
        unverified.resolve(run, call.call_id, "happened", user=user)
    assert fresh(call).status == "effect_unverified"


def test_who_answered_for_a_live_run_stands_in_the_threads_log():
    room, run, call = doubtful()
    unverified.resolve(run, call.call_id, "run_again", user=SYSTEM)
    (event,) = said(room.thread)
    assert (event["status"], event["by"]) == ("pending", repr(SYSTEM))


@pytest.mark.django_db(transaction=True)
def test_of_two_answers_at_once_after_the_end_one_counts():
    room, run, call = canceled()
    outcomes = race(*[lambda: unverified.resolve(run.pk, call.call_id, "give_up", user=SYSTEM)] * 4)
    assert sum(isinstance(item, ToolCall) for item in outcomes) == 1
    assert sum(isinstance(item, AlreadyDecided) for item in outcomes) == 3
    assert len(said(room.thread)) == 1


# --- the deadline -------------------------------------------------------------------------------------------------


def let_pass(run: Run, time: timedelta) -> None:
    Record.objects.filter(stream=run.stream_id).update(created_at=F("created_at") - time)


@pytest.mark.usefixtures("long_grace")
@pytest.mark.covers("promise:P1")
def test_a_run_nobody_answers_for_is_ended_in_time_and_its_call_stays_unverified():
    room, run, call = doubtful()
    after = room.send("And then?")
    days = get_settings().approval_days
    let_pass(run, (days - 1) * DAY)
    assert not sweep().did_something
    let_pass(run, DAY + timedelta(minutes=1))
    Run.objects.filter(pk=after.pk).update(dispatched_at=None, dispatch_count=0)
    assert run in Run.objects.orphans(timezone.now())
    assert sweep().ended == 1
    assert_ended_once(run, "failed")
    assert (fresh(run).error_code, fresh(call).status) == ("effect_unverified", "effect_unverified")
    assert "nobody said in time" in fresh(run).error_message
    assert fresh(after).dispatched_at is not None
    assert not sweep().did_something
    unverified.resolve(run, call.call_id, "give_up", user=SYSTEM)
    assert drive_to_the_end(after).status == "succeeded"
    assert sending.retry(run, user=SYSTEM).retry_of_id == run.pk


def test_a_parked_run_is_not_ended_for_its_unanswered_call():
    _, run, _ = doubtful()
    Run.objects.filter(pk=run.pk).update(poisoned_at=timezone.now())
    let_pass(run, 365 * DAY)
    assert not sweep().did_something and fresh(run).status == "waiting"


def test_an_answer_in_time_lets_the_run_go_on():
    _, run, call = doubtful()
    unverified.resolve(run, call.call_id, "happened", user=SYSTEM, result=1)
    let_pass(run, 365 * DAY)
    assert run_until_idle(run).status == "succeeded"


@pytest.mark.covers("fc:C9")
@pytest.mark.parametrize("name", ["unsafe", "gated"])
def test_the_question_names_the_worker_that_may_still_be_alive(name, client, admin_user):
    if name == "gated":
        _, run = make_waiting_for_gated()
        approval = only_approval(run)
        approvals.approve(approval, user=SYSTEM, digest=approval.digest)
        WORLD.deaths = 1
        die_driving(run)
    else:
        _, run = interrupted(name)
    assert drive_to_the_end(run).status == "waiting"
    question = "Worker doomed had this call last. That worker may still be alive"

    def admin_page():
        client.force_login(admin_user)
        return client.get(reverse("admin:agentcore_run_change", args=[run.pk])).content.decode()

    assert question in admin_page()
    assert question in shown_to(admin_user, run, client)["question"]
    runs.cancel(run, user=SYSTEM)
    assert question in admin_page() and question in shown_to(admin_user, run, client)["question"]


def shown_to(person, run, client):
    """What the API shows a person of the run's only call."""
    client.force_login(person)
    (call,) = client.get(f"/agent/runs/{run.pk}").json()["calls"]
    return call


@pytest.mark.covers("fc:C9")
@pytest.mark.parametrize("ended", [False, True])
def test_only_who_may_answer_reads_of_the_worker_and_others_a_plain_sentence(ended, client, user, operator):
    room, run, call = canceled() if ended else doubtful()
    (told,) = [event for event in log(run) if event["type"] == "tool.result"][:1]
    plain = "The call was interrupted. It is not known whether it took effect; a person will say. Do not repeat it."
    assert told["error"] == fresh(call).error == plain
    type(room.thread).objects.filter(pk=room.thread.pk).update(owner=user)
    seen = shown_to(user, run, client)
    assert (seen["error"], seen["question"]) == (plain, "")
    assert "doomed" not in json.dumps([log(run), client.get(f"/agent/runs/{run.pk}").json()])
    type(room.thread).objects.filter(pk=room.thread.pk).update(owner=operator)
    assert "Worker doomed" in shown_to(operator, run, client)["question"]
    unverified.resolve(run, call.call_id, "give_up", user=operator)
    assert shown_to(operator, run, client)["question"] == ""
