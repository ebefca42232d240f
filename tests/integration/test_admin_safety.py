"""The admin edits nothing, shows nobody more than the policy does, and nothing in its pages is alive."""

from __future__ import annotations

import json
import re
from html import unescape

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Permission

from agentcore.exceptions import ModelError
from agentcore.models import Approval, Message, Run, Step, Thread, ToolCall
from agentcore.streams.models import Record
from agentcore.testing import Turn
from tests.integration import office
from tests.integration.office import address, said, staff

pytestmark = pytest.mark.django_db
LISTS = [Run, Approval, Thread]


@pytest.mark.covers("dj:ADM-3")
@pytest.mark.parametrize("model", LISTS)
def test_nobody_adds_edits_or_deletes_a_record_not_even_a_superuser(client, root, clerk, model):
    run = clerk.asks()
    obj = {Run: run, Approval: Approval.objects.get(), Thread: run.thread}[model]
    before = list(model.objects.values())
    assert client.get(address(model, "add")).status_code == 403
    assert client.post(address(model, "change", obj.pk), {"status": "approved", "title": "x"}).status_code == 403
    assert client.post(address(model, "delete", obj.pk), {"post": "yes"}).status_code == 403
    chosen = {"action": "delete_selected", "_selected_action": [str(obj.pk)], "post": "yes"}
    client.post(address(model, "changelist"), chosen)
    assert list(model.objects.values()) == before


def test_steps_messages_and_tool_calls_have_no_pages_of_their_own():
    assert not {Step, ToolCall, Message, Record} & set(admin.site._registry)


@pytest.mark.covers("dj:ADM-4")
def test_every_action_says_which_permission_it_needs():
    ours = [admin.site._registry[model] for model in apps.get_app_config("agentcore").get_models()
            if model in admin.site._registry]  # fmt: skip
    checked = 0
    for model_admin in ours:
        for action in model_admin._get_base_actions():
            # A tuple until Django 6.0, an object since 6.1.
            function, name = (action.func, action.name) if hasattr(action, "func") else action[:2]
            assert getattr(function, "allowed_permissions", None), f"{model_admin}: {name} declares no permission"
            checked += 1
    assert checked >= 4


@pytest.mark.covers("dj:ADM-4")
def test_an_action_is_offered_only_to_who_may_do_it_to_a_row_that_is_there(rf, clerk, user):
    everyone = staff("root", superuser=True)
    request = rf.get("/")
    request.user = everyone
    assert not any(admin.site._registry[model].get_actions(request) for model in LISTS)
    clerk.asks(owner=user)
    clerk.run(Turn(error=ModelError("Bad key", code="auth")), owner=user)
    offered = {
        ("view_run", "view_any_thread"): set(),
        ("cancel_any_run", "view_any_thread"): {"cancel_selected"},
        ("add_run", "view_any_thread"): {"retry_selected"},
        ("view_approval",): set(),
        ("decide_approval",): {"approve_selected", "deny_selected"},
    }
    for number, (permissions, actions) in enumerate(offered.items()):
        request = rf.get("/")
        request.user = staff(f"staff{number}", *permissions)
        found = {name for model in LISTS for name in admin.site._registry[model].get_actions(request)}
        assert found == actions


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'{{ 7*7 }}"
TRICKS = "safe\u202egnp.exe\u200b\u0007\u00a0\ufe0f\U000e0041end"
SHOWN = r"safe\u202egnp.exe\u200b\u0007\u00a0\ufe0f\udb40\udc41end"


@pytest.mark.covers("dj:ADM-8")
@pytest.mark.parametrize("model", LISTS)
def test_markup_in_what_a_model_or_a_user_wrote_is_inert_everywhere(client, root, clerk, model, user):
    calls = [("pay", {"cents": 1, "to": HOSTILE}), ("note", {"text": HOSTILE}), (HOSTILE[:64], {"x": HOSTILE})]
    run = clerk.asks(*calls, owner=user, prompt=HOSTILE, title=HOSTILE)
    Run.objects.filter(pk=run.pk).update(error_message=HOSTILE, output={"x": HOSTILE}, metadata={"x": HOSTILE})
    obj = {Run: run, Approval: Approval.objects.get(), Thread: run.thread}[model]
    for url in (address(model, "changelist"), address(model, "change", obj.pk)):
        page = client.get(url).content.decode()
        assert "<script>alert" not in page and "<img src=x" not in page
        assert "&lt;script&gt;" in page


@pytest.mark.covers("dj:ADM-8", "dj:ADM-6")
def test_what_cannot_be_seen_is_shown_as_an_escape(client, root, clerk, user):
    run = clerk.asks(("pay", {"cents": 1, "to": TRICKS}), owner=user, prompt=TRICKS, title=TRICKS)
    for obj in (Approval.objects.get(), run, run.thread):
        page = client.get(address(type(obj), "change", obj.pk)).content.decode()
        assert SHOWN in page
        assert not re.search("[\u202e\u200b\u0007\ufe0f\U000e0041]", page)
    page = client.get(address(Approval, "change", Approval.objects.get().pk)).content.decode()
    shown = unescape(re.search(r"data-ac-arguments>(.*?)</pre>", page, re.S)[1])
    assert json.loads(shown) == {"cents": 1, "to": TRICKS}


@pytest.mark.covers("dj:ADM-8", "op:25")
@pytest.mark.parametrize("model", LISTS)
def test_pages_hold_no_script_style_or_handler_of_their_own(client, root, clerk, model):
    run = clerk.asks()
    obj = {Run: run, Approval: Approval.objects.get(), Thread: run.thread}[model]
    page = client.get(address(model, "change", obj.pk)).content.decode()
    scripts = re.findall(r"<script\b[^>]*>(.*?)</script>", page, re.S)
    assert not any(body.strip() for body in scripts)
    assert "<style" not in page and not re.search(r"<[^>]+\s(style|on\w+)=", page)


# --- the policy -------------------------------------------------------------------------------------------------------


@pytest.mark.covers("dj:PRM-1")
def test_the_permissions_come_with_the_migrations():
    names = {"view_any_thread", "cancel_any_run", "decide_approval"}
    assert set(Permission.objects.filter(codename__in=names).values_list("codename", flat=True)) == names


@pytest.mark.covers("dj:PRM-2", "dj:PRM-3")
@pytest.mark.parametrize(
    "permissions, seen",
    [
        ((), None),
        (("view_run", "view_thread", "view_approval"), set()),
        (("decide_approval",), {Approval}),
        (("view_any_thread",), {Run, Thread, Approval}),
    ],
)
def test_staff_see_what_the_policy_shows_them_and_nothing_else(client, clerk, user, permissions, seen):
    run = clerk.asks(owner=user)
    objects = {Run: run, Approval: Approval.objects.get(), Thread: run.thread}
    client.force_login(staff("sam", *permissions))
    for model, obj in objects.items():
        listed = client.get(address(model, "changelist"))
        page = client.get(address(model, "change", obj.pk))
        history = client.get(address(model, "history", obj.pk))
        if seen is not None and model in seen:
            assert list(listed.context["cl"].result_list) == [obj]
            assert page.status_code == history.status_code == 200
            continue
        assert listed.status_code == 403 or list(listed.context["cl"].result_list) == []
        assert page.status_code == history.status_code == 302
        assert str(obj.pk) not in listed.content.decode()


@pytest.mark.covers("dj:PRM-2")
def test_a_foreign_object_answers_like_a_missing_one(client, clerk, user):
    run = clerk.asks(owner=user)
    client.force_login(staff("sam", "view_run", "view_approval", "view_thread", "add_run"))
    missing = "01890000-0000-7000-8000-000000000000"
    for view in ("cancel", "retry", "resume", "answer"):
        assert client.post(address(Run, view, run.pk)).status_code == 404
        assert client.post(address(Run, view, missing)).status_code == 404
    approval = Approval.objects.get()
    assert client.post(address(Approval, "decide", approval.pk), {"verdict": "approve"}).status_code == 404
    for pk in (run.pk, missing, "nonsense"):
        response = client.get(address(Run, "change", pk), follow=True)
        assert said(response) == [f"run with ID “{pk}” doesn’t exist. Perhaps it was deleted?"]


@pytest.mark.covers("dj:PRM-2")
def test_customers_and_strangers_never_reach_the_admin(client, clerk, user):
    run = clerk.asks(owner=user)
    for login in (None, user):
        if login:
            client.force_login(login)
        for response in (client.get(address(Run, "changelist")), client.post(address(Run, "cancel", run.pk))):
            assert response.status_code == 302 and "/login/" in response.url
    run.refresh_from_db()
    assert run.cancel_requested_at is None


# --- another site -----------------------------------------------------------------------------------------------------


@pytest.mark.covers("dj:ADM-9")
@pytest.mark.urls("tests.integration.office")
def test_a_second_admin_site_leads_only_to_its_own_pages(client, root, clerk, user):
    run = clerk.asks(owner=user)
    approval = Approval.objects.get()
    pages = [address(model, "changelist", on="office") for model in LISTS]
    pages += [address(type(obj), "change", obj.pk, on="office") for obj in (run, approval, run.thread)]
    for url in pages:
        response = client.get(url)
        assert response.status_code == 200
        assert 'href="/admin/' not in response.content.decode()
        assert 'action="/admin/' not in response.content.decode()
    answer = {"digest": approval.digest, "verdict": "deny"}
    decided = client.post(address(Approval, "decide", approval.pk, on="office"), answer)
    assert decided.url == address(Approval, "change", approval.pk, on="office")
    ended = client.post(address(Run, "cancel", run.pk, on="office"))
    assert ended.url == address(Run, "change", run.pk, on="office")


@pytest.mark.covers("dj:ADM-9")
@pytest.mark.urls("tests.integration.office")
def test_a_site_with_runs_alone_shows_them_without_dead_links(rf, clerk, monkeypatch, root):
    run = clerk.asks()
    for model in (Approval, Thread):
        monkeypatch.delitem(office.site._registry, model)
    request = rf.get("/")
    request.user = root
    page = office.site._registry[Run].change_view(request, str(run.pk)).render().content.decode()
    assert "approval/" not in page and "thread/" not in page and 'href="/admin/' not in page
