"""What operators do to runs in the admin: through the services, once, and on record."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.utils import timezone

from agentcore.exceptions import ModelError
from agentcore.models import Approval, Run, ToolCall
from agentcore.testing import ScriptedModel, Turn, run_until_idle
from tests.integration.office import address, said, staff

pytestmark = pytest.mark.django_db
FAILS = Turn(error=ModelError("Bad key", code="auth"))


@pytest.fixture
def olga(client):
    """An operator, logged in, with every permission an operator may have."""
    person = staff("olga", "view_any_thread", "cancel_any_run", "decide_approval", "add_run")
    client.force_login(person)
    return person


def press(client, run, button, **fields):
    return client.post(address(Run, button, run.pk), fields, follow=True)


def page_of(client, run):
    return client.get(address(Run, "change", run.pk)).content.decode()


def notes(run):
    return list(LogEntry.objects.filter(object_id=str(run.pk)).values_list("change_message", flat=True))


@pytest.mark.covers("dj:ADM-5", "dj:ADM-7", "op:16", "op:24")
def test_cancel_ends_a_waiting_run_once_and_is_recorded_once(client, clerk, olga):
    run = clerk.asks()
    assert "data-ac-cancel" in page_of(client, run)
    response = press(client, run, "cancel", reason="Wrong customer.")
    assert "Cancelled." in said(response)[0]
    assert "Wrong customer." in response.content.decode()
    assert "data-ac-cancel" not in response.content.decode()
    run.refresh_from_db()
    assert run.status == "canceled" and Approval.objects.get().status == "canceled"
    assert "It has ended already." in said(press(client, run, "cancel"))[0]
    assert notes(run) == ["Cancelled."]
    assert LogEntry.objects.get().user == olga


@pytest.mark.covers("op:16")
def test_a_driven_run_is_cancelling_until_its_worker_ends_it(client, clerk, olga):
    run = clerk.asks()
    soon = timezone.now() + timedelta(minutes=1)
    Run.objects.filter(pk=run.pk).update(status="running", lease_expires_at=soon, attempt=1)
    response = press(client, run, "cancel")
    assert "Cancel requested; its worker ends it." in said(response)[0]
    page = response.content.decode()
    assert "cancelling</span>" in page and "canceled</span>" not in page and "data-ac-cancel" not in page
    assert "It is being cancelled already." in said(press(client, run, "cancel"))[0]
    assert notes(run) == ["Cancel requested; its worker ends it."]


@pytest.mark.covers("dj:ADM-5", "op:17")
def test_retry_makes_one_linked_run_however_often_it_is_pressed(client, clerk, olga):
    run = clerk.run(FAILS, owner=olga)
    assert "data-ac-retry" in page_of(client, run)
    assert "Retried as run 2." in said(press(client, run, "retry"))[0]
    again = press(client, run, "retry")
    assert "It was retried already, as run 2." in said(again)[0]
    new = Run.objects.get(retry_of=run)
    assert address(Run, "change", new.pk) in again.content.decode()
    assert "data-ac-retry" not in again.content.decode()
    assert notes(run) == ["Retried as run 2."]


@pytest.mark.covers("op:17")
def test_retry_warns_of_side_effects_that_may_come_again(client, clerk, olga):
    run = clerk.run(Turn(calls=[("note", {"text": "x"})]), FAILS, owner=olga)
    assert "data-ac-effects" in page_of(client, run)
    plain = clerk.run(FAILS, owner=olga)
    assert "data-ac-effects" not in page_of(client, plain)


@pytest.mark.covers("dj:PRM-2", "op:17")
def test_who_may_not_retry_by_the_policy_is_told_so(client, clerk, user):
    run = clerk.run(FAILS, owner=user)
    client.force_login(staff("sam", "view_any_thread"))
    page = page_of(client, run)
    assert "data-ac-retry" not in page and "You may see this run, but not retry it." in page
    assert "not retry it" in said(press(client, run, "retry"))[0]
    assert Run.objects.count() == 1 and notes(run) == []


@pytest.mark.covers("dj:ADM-5", "op:17")
def test_once_a_retry_has_failed_the_run_may_be_retried_again_as_the_service_says(client, clerk, olga):
    run = clerk.run(FAILS, owner=olga)
    press(client, run, "retry")
    clerk.model = ScriptedModel([FAILS])
    assert run_until_idle(Run.objects.get(retry_of=run)).status == "failed"
    assert "data-ac-retry" in page_of(client, run)
    assert "Retried as run 3." in said(press(client, run, "retry"))[0]


@pytest.mark.covers("dj:ADM-5", "op:24")
def test_a_call_of_a_run_that_has_ended_is_answered_and_then_the_run_is_retried(client, clerk, olga):
    run = clerk.doubts(owner=olga)
    press(client, run, "cancel")
    page = page_of(client, run)
    assert page.count("data-ac-answer") == 1 and "data-ac-retry" not in page
    assert 'value="happened"' in page and 'value="give_up"' in page and 'value="run_again"' not in page
    call = ToolCall.objects.get()
    assert "cannot run again" in said(press(client, run, "answer", call_id=call.call_id, answer="run_again"))[0]
    response = press(client, run, "answer", call_id=call.call_id, answer="happened", result='{"paid": 500}')
    call.refresh_from_db()
    assert (call.status, call.result_json) == ("succeeded", {"paid": 500})
    assert "data-ac-answer" not in response.content.decode() and "data-ac-retry" in response.content.decode()
    assert "Retried as run 2." in said(press(client, run, "retry"))[0]


@pytest.mark.covers("dj:ADM-5")
def test_a_poisoned_run_is_resumed_once(client, clerk, olga):
    run = clerk.asks()
    assert "data-ac-resume" not in page_of(client, run)
    Run.objects.filter(pk=run.pk).update(poisoned_at=timezone.now(), lost_leases=3)
    page = page_of(client, run)
    assert "data-ac-resume" in page and "waiting: poisoned" in page and "3 workers died" in page
    assert "Resumed." in said(press(client, run, "resume"))[0]
    run.refresh_from_db()
    assert (run.status, run.poisoned_at) == ("pending", None)
    assert "nothing to resume" in said(press(client, run, "resume"))[0]
    assert notes(run) == ["Resumed."]


@pytest.mark.covers("dj:ADM-5", "op:24")
@pytest.mark.parametrize(
    "answer, fields, status, result",
    [
        ("happened", {"result": '{"paid": 500}'}, "succeeded", {"paid": 500}),
        ("happened", {"result": ""}, "succeeded", None),
        ("give_up", {"reason": "The bank is closed."}, "failed", None),
        ("run_again", {}, "pending", None),
    ],
)
def test_a_person_says_what_became_of_a_call(client, clerk, olga, answer, fields, status, result):
    run = clerk.doubts()
    call = ToolCall.objects.get()
    assert page_of(client, run).count("data-ac-answer") == 1
    response = press(client, run, "answer", call_id=call.call_id, answer=answer, **fields)
    assert said(response) == [f"Answered for pay: {answer.replace('_', ' ')}."]
    call.refresh_from_db()
    assert (call.status, call.result_json) == (status, result)
    assert "data-ac-answer" not in response.content.decode()
    again = press(client, run, "answer", call_id=call.call_id, answer=answer, **fields)
    assert said(again) == ["This call does not wait for an answer."]
    assert len(notes(run)) == 1 and call.call_id in notes(run)[0]
    run.refresh_from_db()
    assert run.status == "pending"


def test_an_answer_that_makes_no_sense_changes_nothing(client, clerk, olga):
    run = clerk.doubts()
    call_id = ToolCall.objects.get().call_id
    senseless = [
        ({"call_id": call_id, "answer": "happened", "result": "{"}, "The result is not JSON."),
        ({"call_id": call_id, "answer": "maybe"}, "The answer must be one of"),
        ({"call_id": call_id}, "The answer must be one of"),
        ({"call_id": "another", "answer": "give_up"}, "There is nothing here."),
    ]
    for fields, sentence in senseless:
        assert said(press(client, run, "answer", **fields))[0].startswith(sentence)
    assert ToolCall.objects.get().status == "effect_unverified" and notes(run) == []


@pytest.mark.covers("dj:PRM-2")
def test_staff_who_may_only_look_find_no_buttons_and_change_nothing(client, clerk):
    client.force_login(staff("vera", "view_any_thread"))
    waiting, doubtful, failed, parked = clerk.asks(), clerk.doubts(), clerk.run(FAILS), clerk.asks()
    Run.objects.filter(pk=parked.pk).update(poisoned_at=timezone.now())
    before = list(Run.objects.order_by("pk").values())
    for run in (waiting, doubtful, failed, parked):
        assert not re.search(r"data-ac-(cancel|retry|resume|answer)\b", page_of(client, run))
        call = run.tool_calls.first()
        for button in ("cancel", "retry", "resume", "answer"):
            press(client, run, button, call_id=call.call_id if call else "", answer="give_up")
    assert list(Run.objects.order_by("pk").values()) == before
    assert ToolCall.objects.filter(run=doubtful).get().status == "effect_unverified"
    assert not LogEntry.objects.exists()


@pytest.mark.covers("dj:SEC-1")
def test_buttons_take_posts_with_a_csrf_token_only(clerk):
    run = clerk.asks()
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(staff("root", superuser=True))
    approval = Approval.objects.get()
    for button in ("cancel", "retry", "resume", "answer"):
        assert strict.post(address(Run, button, run.pk)).status_code == 403
        assert strict.get(address(Run, button, run.pk)).status_code == 405
    posted = {"digest": approval.digest, "verdict": "approve"}
    assert strict.post(address(Approval, "decide", approval.pk), posted).status_code == 403
    run.refresh_from_db()
    assert run.status == "waiting"


# --- many at once -----------------------------------------------------------------------------------------------------


def choose(client, action, runs):
    return client.post(
        address(Run, "changelist"), {"action": action, "_selected_action": [str(run.pk) for run in runs]}
    )


def confirm(client, page):
    text = page.content.decode()
    fields: dict[str, list[str]] = {}
    for name, value in re.findall(r'<input type="hidden" name="(?!csrf)([^"]+)" value="([^"]*)"', text):
        fields.setdefault(name, []).append(value)
    return client.post(re.search(r'<form method="post" action="([^"]+)" class="ac-form"', text)[1], fields, follow=True)


@pytest.mark.covers("dj:ADM-5", "op:19")
def test_many_runs_are_cancelled_after_a_page_that_lists_them_and_what_is_left_alone(client, clerk, olga):
    first, second, done = clerk.asks(), clerk.asks(), clerk.answers()
    page = choose(client, "cancel_selected", [first, second, done])
    text = page.content.decode()
    assert set(re.findall(r'name="_selected_action" value="([^"]+)"', text)) == {str(first.pk), str(second.pk)}
    assert text.count("data-ac-skipped") == 1 and "It has ended already." in text
    assert Run.objects.filter(status="waiting").count() == 2
    told = said(confirm(client, page))
    assert len(told) == 2 and all("Cancelled." in text for text in told)
    assert Run.objects.filter(status="canceled").count() == 2 and LogEntry.objects.count() == 2
    again = said(confirm(client, page))
    assert len(again) == 2 and all("It has ended already." in text for text in again)
    assert LogEntry.objects.count() == 2


@pytest.mark.covers("dj:ADM-5", "op:19")
def test_many_runs_are_retried_once_each(client, clerk, olga):
    first, second = clerk.run(FAILS, owner=olga), clerk.run(FAILS, owner=olga)
    page = choose(client, "retry_selected", [first, second])
    confirm(client, page)
    assert Run.objects.filter(retry_of__in=[first, second]).count() == 2
    told = said(confirm(client, page))
    assert all("It was retried already" in text for text in told)
    assert Run.objects.count() == 4


@pytest.mark.covers("dj:ADM-4")
def test_actions_posted_without_their_permission_do_nothing(client, clerk):
    client.force_login(staff("vera", "view_any_thread", "view_run"))
    run, failed = clerk.asks(), clerk.run(FAILS)
    for action in ("cancel_selected", "retry_selected"):
        data = {"action": action, "confirmed": "1", "_selected_action": [str(run.pk), str(failed.pk)]}
        client.post(address(Run, "changelist"), data)
    run.refresh_from_db()
    assert run.status == "waiting" and Run.objects.count() == 2


def test_a_run_goes_on_after_an_answer_given_in_the_admin(client, clerk, olga):
    run = clerk.doubts()
    press(client, run, "answer", call_id=ToolCall.objects.get().call_id, answer="happened", result="1")
    run.refresh_from_db()
    assert run_until_idle(run).status == "succeeded"
