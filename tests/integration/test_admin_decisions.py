"""Decisions taken in the admin: on exactly what was shown, by who may, once, and on record."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from html import unescape

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import timezone

from agentcore.access import SYSTEM
from agentcore.models import Approval, Run
from agentcore.testing import run_until_idle
from tests.integration.office import address, said, staff
from tests.integration.tampering import CHANGES, ask_anew

pytestmark = pytest.mark.django_db


def page_of(client, approval):
    response = client.get(address(Approval, "change", approval.pk))
    assert response.status_code == 200
    return response.content.decode()


def form_on(page):
    """The fields of the decision form, as a browser would send them back untouched."""
    fields = dict(re.findall(r'<input type="hidden" name="(digest|from_run)" value="([^"]*)"', page))
    edited = re.search(r'<textarea[^>]*name="arguments"[^>]*>(.*?)</textarea>', page, re.S)
    return fields | ({"arguments": unescape(edited[1])} if edited else {})


def decide(client, approval, verdict, fields=None, **changes):
    fields = form_on(page_of(client, approval)) if fields is None else fields
    data = {**fields, "verdict": verdict, **changes}
    return client.post(address(Approval, "decide", approval.pk), data, follow=True)


@pytest.mark.covers("dj:ADM-6", "dj:ADM-7", "op:18")
def test_an_approved_call_runs_with_the_arguments_that_were_shown(client, clerk, olga):
    run = clerk.asks()
    approval = Approval.objects.get()
    page = page_of(client, approval)
    assert json.loads(unescape(re.search(r"data-ac-arguments>(.*?)</pre>", page, re.S)[1])) == {
        "cents": 500,
        "to": "ada",
    }
    assert approval.digest in page
    assert "the model and the customer may read it" in page
    response = decide(client, approval, "approve", reason="Receipt seen.")
    assert said(response) == ["You approved pay."]
    assert run_until_idle(run).status == "succeeded"
    assert clerk.paid == [500]
    approval.refresh_from_db()
    assert (approval.decided_by, approval.reason, approval.edited_arguments) == (olga, "Receipt seen.", "")
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id) == (olga, str(approval.pk))
    assert "approved pay" in entry.change_message and approval.digest[:16] in entry.change_message
    after = page_of(client, approval)
    assert "olga" in after and "Receipt seen." in after and '<form method="post" action="/admin/agentcore' not in after
    assert "approved pay" in client.get(address(Approval, "history", approval.pk)).content.decode()


@pytest.mark.covers("dj:ADM-7")
def test_a_denied_call_never_runs_and_the_reason_is_kept(client, clerk, olga):
    run = clerk.asks()
    approval = Approval.objects.get()
    assert said(decide(client, approval, "deny", reason="Too much.")) == ["You denied pay."]
    assert run_until_idle(run).status == "succeeded" and clerk.paid == []
    approval.refresh_from_db()
    assert (approval.status, approval.decided_by, approval.reason) == ("denied", olga, "Too much.")


@pytest.mark.covers("dj:ADM-6", "op:18")
def test_edited_arguments_replace_what_was_asked_and_both_are_kept(client, clerk, olga):
    run = clerk.asks()
    approval = Approval.objects.get()
    said_so = said(decide(client, approval, "approve", arguments='{"cents": 50}'))
    assert said_so == ["You approved pay."]
    run_until_idle(run)
    assert clerk.paid == [50]
    page = page_of(client, approval)
    assert "data-ac-edited" in page and "500" in page
    assert "Arguments, as asked" in page and "exactly as they will be used" not in page
    assert "with edited arguments" in LogEntry.objects.get().change_message


@pytest.mark.covers("op:18")
@pytest.mark.parametrize("typed", ["{", "[1]", '{"cents": NaN}', '{"cents": "many"}', '{"cents": 1, "extra": 1}'])
def test_arguments_that_are_not_valid_decide_nothing_and_stay_in_the_form(client, clerk, olga, typed):
    clerk.asks()
    approval = Approval.objects.get()
    response = decide(client, approval, "approve", arguments=typed, reason="Half.")
    assert response.status_code == 400
    page = response.content.decode()
    assert 'role="alert"' in page and "Half." in page and typed in unescape(page)
    approval.refresh_from_db()
    assert approval.status == "pending" and not LogEntry.objects.exists()


def test_denying_does_not_mind_what_was_typed_into_the_arguments(client, clerk, olga):
    clerk.asks()
    approval = Approval.objects.get()
    assert said(decide(client, approval, "deny", arguments="{")) == ["You denied pay."]


@pytest.mark.covers("dj:ADM-6")
@pytest.mark.parametrize("verdict", ["approve", "deny"])
@pytest.mark.parametrize("change", CHANGES)
def test_arguments_changed_between_the_page_and_the_answer_are_refused(client, clerk, olga, change, verdict):
    run = clerk.asks()
    approval = Approval.objects.get()
    fields = form_on(page_of(client, approval))
    change(approval)
    response = decide(client, approval, verdict, fields)
    assert said(response) == ["The arguments are not the ones you were shown. Reload and read them again."]
    page = response.content.decode()
    # What was asked anew is shown anew; what was tampered with can no longer be decided at all.
    assert ("do not match their digest" in page) == (change is not ask_anew)
    assert ('name="verdict"' in page) == (change is ask_anew)
    approval.refresh_from_db()
    assert approval.status == "pending" and not LogEntry.objects.exists()
    assert run_until_idle(run).status == "waiting" and clerk.paid == []


@pytest.mark.covers("dj:ADM-6")
def test_a_decision_without_the_digest_of_a_page_is_refused(client, clerk, olga):
    clerk.asks()
    approval = Approval.objects.get()
    for fields in ({}, {"digest": "x"}):
        assert "not the ones you were shown" in said(decide(client, approval, "approve", fields))[0]
    assert client.get(address(Approval, "decide", approval.pk)).status_code == 405
    approval.refresh_from_db()
    assert approval.status == "pending"


@pytest.mark.covers("dj:ADM-5")
def test_a_double_click_decides_once_and_records_it_once(client, clerk, olga):
    run = clerk.asks()
    approval = Approval.objects.get()
    fields = form_on(page_of(client, approval))
    assert said(decide(client, approval, "approve", fields)) == ["You approved pay."]
    assert said(decide(client, approval, "approve", fields)) == ["You had approved pay already."]
    assert LogEntry.objects.count() == 1
    run_until_idle(run)
    assert clerk.paid == [500]


@pytest.mark.covers("dj:ADM-5", "op:18")
def test_who_comes_too_late_is_told_what_happened(client, clerk, olga):
    run = clerk.asks()
    approval = Approval.objects.get()
    fields = form_on(page_of(client, approval))
    clerk.agent.tools.approve(approval, user=staff("otto", "decide_approval"), digest=approval.digest)
    late = decide(client, approval, "deny", fields)
    assert said(late) == ["This approval is approved already. Reload to see the decision."]
    assert "otto" in late.content.decode()
    assert not LogEntry.objects.exists()
    run_until_idle(run)
    assert clerk.paid == [500]


@pytest.mark.covers("dj:ADM-5")
def test_expired_approvals_and_ended_runs_take_no_decision(client, clerk, olga):
    expired, ended = clerk.asks(), clerk.asks()
    for run, sentence in ((expired, "The approval has expired."), (ended, "The run has ended.")):
        approval = Approval.objects.get(run=run)
        fields = form_on(page_of(client, approval))
        if run is expired:
            Approval.objects.filter(pk=approval.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
        else:
            clerk.agent.runs.cancel(run, user=SYSTEM)
        response = decide(client, approval, "approve", fields)
        assert sentence in said(response)[0]
        assert 'value="approve"' not in response.content.decode()
    assert not LogEntry.objects.exists() and clerk.paid == []


@pytest.mark.covers("dj:PRM-2", "dj:PRM-4", "op:18")
def test_staff_who_may_look_get_no_buttons_and_their_post_is_refused(client, clerk):
    clerk.asks()
    approval = Approval.objects.get()
    client.force_login(staff("vera", "view_approval", "view_any_thread"))
    for url in (address(Approval, "change", approval.pk), address(Run, "change", approval.run_id)):
        page = client.get(url).content.decode()
        assert "not decide it" in page and 'name="verdict"' not in page and 'name="digest"' not in page
    posted = {"digest": approval.digest, "verdict": "approve"}
    assert client.post(address(Approval, "decide", approval.pk), posted).status_code == 403
    approval.refresh_from_db()
    assert approval.status == "pending"


def test_a_decider_who_may_not_read_the_thread_sees_the_call_and_nothing_of_the_conversation(client, clerk, olga):
    run = clerk.asks(prompt="My secret plan.")
    page = page_of(client, Approval.objects.get())
    assert 'value="approve"' in page
    assert "secret plan" not in page and address(Run, "change", run.pk) not in page
    client.force_login(staff("rita", "decide_approval", "view_any_thread"))
    page = page_of(client, Approval.objects.get())
    assert "My secret plan." in page and address(Run, "change", run.pk) in page


@pytest.mark.covers("op:18")
def test_a_call_is_decided_on_the_page_of_its_run(client, clerk):
    client.force_login(staff("rita", "decide_approval", "view_any_thread"))
    run = clerk.asks(("pay", {"cents": 1}), ("pay", {"cents": 2}))
    approval = Approval.objects.get(arguments__contains='"cents":2')
    page = client.get(address(Run, "change", run.pk)).content.decode()
    assert page.count('name="verdict" value="approve"') == 2
    response = decide(client, approval, "approve", {"digest": approval.digest, "from_run": "1"})
    assert response.redirect_chain[-1][0] == address(Run, "change", run.pk)
    assert response.content.decode().count('name="verdict" value="approve"') == 1


@pytest.mark.covers("op:20")
def test_the_next_approval_is_one_link_away_and_never_opens_by_itself(client, clerk, olga):
    clerk.asks(("pay", {"cents": 1}), ("pay", {"cents": 2}))
    first, second = clerk.agent.tools.pending(user=SYSTEM)
    response = decide(client, first, "approve")
    assert response.redirect_chain[-1][0] == address(Approval, "change", first.pk)
    assert f'href="{address(Approval, "change", second.pk)}" data-ac-next' in response.content.decode()
    assert "data-ac-next" not in decide(client, second, "approve").content.decode()
