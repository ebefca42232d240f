"""The admin decides many approvals at once: exactly those it has shown, and it names the ones it leaves alone."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import timezone

from agentcore.access import SYSTEM
from agentcore.models import Approval
from agentcore.testing import run_until_idle
from tests.integration.office import address, said, staff
from tests.integration.tampering import CHANGES

pytestmark = pytest.mark.django_db


def choose(client, action, approvals):
    data = {"action": action, "_selected_action": [str(approval.pk) for approval in approvals]}
    return client.post(address(Approval, "changelist"), data)


def confirm(client, page):
    """Send a confirmation page back as it is."""
    text = page.content.decode()
    post_url = unescape(re.search(r'<form method="post" action="([^"]+)" class="ac-form"', text)[1])
    fields: dict[str, list[str]] = {}
    for name, value in re.findall(r'<input type="hidden" name="(?!csrf)([^"]+)" value="([^"]*)"', text):
        fields.setdefault(name, []).append(unescape(value))
    return client.post(post_url, fields, follow=True)


@pytest.mark.covers("dj:ADM-5", "op:19")
def test_a_batch_is_shown_before_it_is_decided_and_then_exactly_that_is_decided(client, clerk, olga):
    runs = [clerk.asks(("pay", {"cents": cents})) for cents in (100, 200, 300)]
    first, second, third = Approval.objects.order_by("requested_at")
    clerk.agent.tools.deny(third, user=SYSTEM, digest=third.digest)
    page = choose(client, "approve_selected", [first, second])
    text = unescape(page.content.decode())
    assert '"cents": 100' in text and '"cents": 200' in text and first.digest in text and second.digest in text
    assert Approval.objects.pending().count() == 2
    response = confirm(client, page)
    assert said(response) == ["You approved pay.", "You approved pay."]
    assert LogEntry.objects.count() == 2
    again = confirm(client, page)
    assert said(again) == ["You had approved pay already.", "You had approved pay already."]
    assert LogEntry.objects.count() == 2
    clerk.model = clerk.model.__class__(clerk.model.turns[1:] * 2)
    for run in runs[:2]:
        run_until_idle(run)
    assert sorted(clerk.paid) == [100, 200]


@pytest.mark.covers("dj:ADM-6", "op:19")
@pytest.mark.parametrize("change", CHANGES)
def test_in_a_batch_what_has_changed_is_refused_and_the_rest_decided(client, clerk, olga, change):
    for cents in (100, 200):
        clerk.asks(("pay", {"cents": cents}))
    first, second = Approval.objects.order_by("requested_at")
    page = choose(client, "deny_selected", [first, second])
    change(first)
    told = said(confirm(client, page))
    assert len(told) == 2 and "You denied pay." in told
    assert any("not the ones you were shown" in text and str(first.pk)[-8:] in text for text in told)
    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.status, second.status) == ("pending", "denied")


@pytest.mark.covers("op:19")
def test_a_batch_says_what_it_leaves_alone_and_why(client, clerk, olga):
    clerk.asks(("pay", {"cents": 1}), ("pay", {"cents": 2}))
    first, second = Approval.objects.order_by("pk")
    Approval.objects.filter(pk=first.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    text = choose(client, "approve_selected", [first, second]).content.decode()
    assert re.findall(r'name="_selected_action" value="([^"]+)"', text) == [str(second.pk)]
    assert text.count("data-ac-skipped") == 1 and "has expired" in text


@pytest.mark.covers("dj:ADM-4")
def test_a_batch_without_the_permission_decides_nothing(client, clerk):
    clerk.asks()
    approval = Approval.objects.get()
    client.force_login(staff("vera", "view_approval", "view_any_thread"))
    data = {
        "action": "approve_selected",
        "confirmed": "1",
        "_selected_action": [str(approval.pk)],
        f"digest_{approval.pk}": approval.digest,
    }
    client.post(address(Approval, "changelist"), data)
    approval.refresh_from_db()
    assert approval.status == "pending"
