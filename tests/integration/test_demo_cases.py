"""The support desk: cases, sending, quotas, refunds, and who may do what."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import AbstractUser
from django.test import Client

from agentcore import SYSTEM
from agentcore.models import Message, Run, Thread
from agentcore.services import runs
from agentcore.services.sending import retry
from supportdemo.accounts import limits
from supportdemo.accounts.limits import RateLimit
from supportdemo.accounts.models import Allowance
from supportdemo.cases import sending
from supportdemo.cases.agents import support
from supportdemo.cases.models import Case

from .demo import client_of, open_case, post

pytestmark = pytest.mark.django_db


def nothing_was_sent() -> bool:
    return not (Run.objects.exists() or Message.objects.exists())


# --- sending ----------------------------------------------------------------------------------------------------


def test_message_makes_one_run_and_says_so(user: AbstractUser, case: Case) -> None:
    response = post(client_of(user), case, text="Where is A-1001?")
    assert response.status_code == 201
    run = Run.objects.get()
    body = response.json()
    assert body["run"].keys() == {"id", "thread", "number", "order", "agent", "agent_version", "status", "created_at"}
    assert (body["run"]["id"], body["run"]["status"], body["run"]["agent"]) == (str(run.pk), "pending", "support")
    assert body["message"]["text"] == "Where is A-1001?" and body["message"]["author"]["kind"] == "user"


def test_same_key_is_the_same_run_and_costs_nothing(user: AbstractUser, case: Case) -> None:
    client = client_of(user)
    first, again = post(client, case), post(client, case)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["run"]["id"] == again.json()["run"]["id"]
    assert Run.objects.count() == Message.objects.count() == 1
    assert Allowance.objects.get(action="send").used == 1


def test_same_key_with_another_text_is_a_conflict(user: AbstractUser, case: Case) -> None:
    client = client_of(user)
    post(client, case)
    response = post(client, case, text="Something else")
    assert (response.status_code, response.json()["code"]) == (409, "key_conflict")
    assert response["Content-Type"] == "application/problem+json"
    assert Run.objects.count() == Message.objects.count() == 1


@pytest.mark.covers("api:Q1")
def test_quota_refusal_leaves_nothing_and_names_the_wait(
    user: AbstractUser, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "SENDS", RateLimit("send", times=2, seconds=3600))
    monkeypatch.setattr(limits.time, "time", lambda: 3600.0 * 100 + 600)
    client = client_of(user)
    for number in range(2):
        assert post(client, case, key=f"key-0000000{number}").status_code == 201
    refused = post(client, case, key="key-00000009")
    assert (refused.status_code, refused.json()["code"], refused.json()["retry_after"]) == (429, "send_limit", 3000)
    assert refused["Retry-After"] == "3000" and "Try again in 3000 seconds" in refused.json()["detail"]
    assert Run.objects.count() == Message.objects.count() == 2
    assert post(client, case, key="key-00000001").status_code == 200  # what was sent before is not sent again
    monkeypatch.setattr(limits.time, "time", lambda: 3600.0 * 101)
    assert post(client, case, key="key-00000009").status_code == 201


def test_quota_is_everyones_own(
    user: AbstractUser, other_user: AbstractUser, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "SENDS", RateLimit("send", times=1, seconds=3600))
    assert post(client_of(user), case).status_code == 201
    assert post(client_of(other_user), open_case(other_user)).status_code == 201


@pytest.mark.covers("threat:T3")
@pytest.mark.parametrize(
    "body",
    [
        {"text": ""},
        {"text": "   "},
        {"text": "x" * 8_001},
        {"key": "short"},
        {"key": "spaces are no keys"},
        {"files": ["no-uuid"]},
        {"files": [str(uuid4()) for _ in range(6)]},
        {"user": "olga"},
        {"status": "succeeded"},
        {"text": None},
    ],
)
def test_invalid_message_is_refused_whole(user: AbstractUser, case: Case, body: dict[str, Any]) -> None:
    response = post(client_of(user), case, **body)
    assert (response.status_code, response.json()["code"]) == (422, "invalid")
    assert nothing_was_sent() and not Allowance.objects.exists()


@pytest.mark.covers("fc:E5", "fc:E8")
@pytest.mark.parametrize(
    "kind, body, status",
    [
        *(
            ("application/json", body, 400)
            for body in (b"{", b"\xff", b"[" * 100_000, b'{"text":1e400}', b'{"a":1,"a":1}')
        ),
        *(("application/json", body, 422) for body in (b"[]", b'"text"', b"{}")),
        *((kind, b"{}", 415) for kind in ("text/plain", "application/xml", "rubbish")),
        ("application/json", b"", 415),  # the client sends no type with an empty body
    ],
)
def test_body_that_is_no_message_is_refused(
    user: AbstractUser, case: Case, kind: str, body: bytes, status: int
) -> None:
    response = client_of(user).post(f"/cases/{case.pk}/messages/", body, content_type=kind)
    assert response.status_code == status and response.json()["detail"]
    assert nothing_was_sent() and not Allowance.objects.exists()


def attach(user: AbstractUser, case: Case) -> str:
    from django.core.files.uploadedfile import SimpleUploadedFile

    response = client_of(user).post(
        f"/cases/{case.pk}/files/", {"file": SimpleUploadedFile("note.txt", b"Cracked lid.")}
    )
    return str(response.json()["id"])


def test_attached_file_is_a_part_of_the_message(user: AbstractUser, case: Case, settings: Any, tmp_path: Any) -> None:
    settings.MEDIA_ROOT = tmp_path
    file_id = attach(user, case)
    body = post(client_of(user), case, files=[file_id]).json()
    assert body["message"]["parts"][1] == {
        "type": "file",
        "file_id": file_id,
        "filename": "note.txt",
        "media_type": "text/plain",
    }
    assert Run.objects.get().metadata == {"files": [file_id]}


@pytest.mark.covers("threat:T2")
def test_file_of_another_case_is_unknown_here(user: AbstractUser, case: Case, settings: Any, tmp_path: Any) -> None:
    settings.MEDIA_ROOT = tmp_path
    file_id = attach(user, open_case(user, "Another"))
    response = post(client_of(user), case, files=[file_id])
    assert (response.status_code, response.json()["code"]) == (400, "unknown_file")
    assert nothing_was_sent()


def test_plain_form_sends_and_returns_to_the_case(user: AbstractUser, case: Case) -> None:
    response = client_of(user).post(f"/cases/{case.pk}/messages/", {"text": "Hello"}, headers={"Accept": "text/html"})
    assert (response.status_code, response["Location"]) == (302, f"/cases/{case.pk}/")
    assert Run.objects.get().prompt.text == "Hello"  # type: ignore[union-attr]


@pytest.mark.covers("threat:T5")
def test_sending_needs_post_log_in_and_csrf_token(user: AbstractUser, case: Case) -> None:
    url = f"/cases/{case.pk}/messages/"
    assert client_of(user).get(url).status_code == 405
    assert (Client().post(url).status_code, Client().post(url).json()["code"]) == (401, "not_authenticated")
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(user)
    assert post(strict, case).status_code == 403
    assert nothing_was_sent()


# --- who sees what ----------------------------------------------------------------------------------------------


@pytest.mark.covers("threat:T1", "threat:T31")
def test_strangers_case_answers_like_a_missing_one(other_user: AbstractUser, case: Case) -> None:
    stranger = client_of(other_user)
    assert stranger.get(f"/cases/{case.pk}/").status_code == 404
    foreign = post(stranger, case)
    missing = stranger.post(f"/cases/{uuid4()}/messages/", "{}", content_type="application/json")
    assert foreign.status_code == missing.status_code == 404
    assert {**foreign.json(), "id": ""} == {**missing.json(), "id": ""}
    assert b"Late parcel" not in stranger.get("/cases/").content
    assert nothing_was_sent()


def test_case_page_shows_who_may_what(user: AbstractUser, supervisor: AbstractUser, case: Case) -> None:
    mine = client_of(user).get(f"/cases/{case.pk}/").context
    assert (mine["case"], mine["thread_id"]) == (case, str(case.thread_id))
    assert (mine["model_label"], mine["offline"]) == ("Offline model (no API key)", True)
    assert (mine["can_decide"], mine["can_write"], list(mine["attachments"]), mine["charges"]) == (False, True, [], [])
    theirs = client_of(supervisor).get(f"/cases/{case.pk}/").context
    assert (theirs["can_decide"], theirs["can_write"]) == (True, False)


def test_operator_reads_every_case_but_writes_in_none(supervisor: AbstractUser, case: Case) -> None:
    client = client_of(supervisor)
    assert b"Late parcel" in client.get("/cases/").content
    response = post(client, case)
    assert (response.status_code, response.json()["code"]) == (403, "not_allowed")
    assert nothing_was_sent()


def test_operator_without_the_permission_sees_no_case(operator: AbstractUser, case: Case) -> None:
    assert client_of(operator).get(f"/cases/{case.pk}/").status_code == 404


@pytest.mark.parametrize("path", ["/cases/", "/cases/new/", "/cases/{}/"])
def test_pages_send_strangers_to_the_log_in(case: Case, path: str) -> None:
    assert Client().get(path.format(case.pk)).status_code == 302


def test_new_case_opens_a_thread_of_the_customer(user: AbstractUser) -> None:
    client = client_of(user)
    refused = client.post("/cases/new/", {"subject": "", "priority": "normal"})
    assert refused.status_code == 422 and not Thread.objects.exists()
    response = client.post("/cases/new/", {"subject": "Broken cup", "priority": "high"})
    case = Case.objects.get()
    assert response["Location"] == f"/cases/{case.pk}/"
    assert (case.customer, case.thread.owner, case.thread.title) == (user, user, "Broken cup")
    assert case.status == ""


@pytest.mark.covers("fc:B10")
def test_a_case_stands_as_its_newest_turn_does_and_says_who_it_waits_for(case: Case, user: AbstractUser) -> None:
    older = support.runs.send(case.thread, "First", user=user)
    newer = support.runs.send(case.thread, "Second", user=user)
    runs.cancel(older, user=SYSTEM)
    Run.objects.filter(pk=newer.pk).update(status="succeeded", finished_at=newer.created_at)
    # The older turn is tried again, and has the higher number from now on.
    assert retry(older, user=user).number > newer.number
    assert standing(case) == "succeeded"
    Run.objects.filter(pk=newer.pk).update(status="waiting", finished_at=None, poisoned_at=newer.created_at)
    assert standing(case) == "staff"
    assert "needs a person" in client_of(user).get("/cases/").content.decode()


def standing(case: Case) -> str:
    """How the case stands, which the list and the page must agree on."""
    listed: Case = Case.objects.with_status().get(pk=case.pk)
    assert listed.status == Case.objects.get(pk=case.pk).status
    return listed.status
