"""Limits of the desk that no other door leads past: guesses, messages, cases, and what a subject may be."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import AbstractUser
from django.test import Client

from agentcore.models import Run
from supportdemo import settings as demo_settings
from supportdemo.accounts import forms
from supportdemo.accounts.limits import RateLimit
from supportdemo.accounts.models import Allowance
from supportdemo.cases import sending, views
from supportdemo.cases.models import Case

from .demo import client_of, open_case, post

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_window")]
JSON = "application/json"
LOGINS = ("/accounts/login/", "/admin/login/")


def log_in(path: str, name: str, password: str) -> Any:
    return Client().post(path, {"username": name, "password": password})


def errors(response: Any) -> str:
    return str(response.context["form"].non_field_errors())


@pytest.mark.covers("threat:T29")
def test_admin_log_in_shares_the_limit_on_guesses(operator: AbstractUser) -> None:
    for _ in range(12):
        assert log_in("/admin/login/", "olga", "pw").status_code == 302  # right guesses are not counted
    for number in range(10):
        assert "Too many attempts" not in errors(log_in(LOGINS[number % 2], "olga", "wrong"))
    for path in LOGINS:
        assert "Too many attempts" in errors(log_in(path, "olga", "pw"))


def test_admin_log_in_is_for_staff_only(user: AbstractUser) -> None:
    assert "staff account" in errors(log_in("/admin/login/", "ada", "pw"))


def log_in_from(address: str, name: str, password: str, forwarded: str = "") -> Any:
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    data = {"username": name, "password": password}
    return Client().post("/accounts/login/", data, REMOTE_ADDR=address, headers=headers)


@pytest.mark.covers("fc:E14", "threat:T29")
def test_guesses_at_one_address_lock_out_nobody_else_there(user: AbstractUser, operator: AbstractUser) -> None:
    for number in range(60):
        log_in_from("192.0.2.1", f"name{number % 6}", "x")
    assert "Too many attempts" in errors(log_in_from("192.0.2.1", "name0", "x"))
    assert log_in_from("192.0.2.1", "ada", "pw").status_code == 302
    for _ in range(10):
        log_in_from("192.0.2.1", "ada", "wrong")
    assert "Too many attempts" in errors(log_in_from("192.0.2.1", "ada", "pw"))
    assert log_in_from("192.0.2.1", "olga", "pw").status_code == 302
    assert log_in_from("192.0.2.2", "ada", "pw").status_code == 302


@pytest.mark.covers("fc:E14", "threat:T29")
def test_guesses_at_one_name_from_many_addresses_are_limited(
    operator: AbstractUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (forms.GUESSES_OF_NAME.times, forms.GUESSES_OF_NAME.seconds) == (50, 60)
    monkeypatch.setattr(forms, "GUESSES_OF_NAME", RateLimit("log-in-name", times=3, seconds=3600))
    for number in range(3):
        assert "Too many attempts" not in errors(log_in_from(f"192.0.2.{number}", "olga", "x"))
    assert "Too many attempts" in errors(log_in_from("192.0.2.9", "Olga", "pw"))


@pytest.mark.covers("fc:E14")
def test_a_forwarded_address_is_believed_from_a_trusted_proxy_only(user: AbstractUser, settings: LazySettings) -> None:
    for number in range(10):
        log_in_from("192.0.2.1", "ada", "wrong", forwarded=f"198.51.100.{number}")
    assert "Too many attempts" in errors(log_in_from("192.0.2.1", "ada", "pw", forwarded="198.51.100.99"))
    settings.TRUSTED_PROXIES = ["192.0.2.1", "192.0.2.7"]
    chain = "203.0.113.{}, 198.51.100.1, 192.0.2.7"  # the client may have written the first one itself
    for number in range(10):
        log_in_from("192.0.2.1", "ada", "wrong", forwarded=chain.format(number))
    assert "Too many attempts" in errors(log_in_from("192.0.2.1", "ada", "pw", forwarded=chain.format(99)))
    assert log_in_from("192.0.2.1", "ada", "pw", forwarded="198.51.100.2").status_code == 302
    behind_both = "198.51.100.1, 198.51.100.3, 192.0.2.7"  # is not counted as the inner proxy, nor as whom it names
    assert log_in_from("192.0.2.1", "ada", "pw", forwarded=behind_both).status_code == 302


def start(client: Client, thread: Any) -> Any:
    body = json.dumps({"agent": "support", "text": "Hello"})
    return client.post(f"/agent/threads/{thread}/runs", body, content_type="application/json")


@pytest.mark.covers("api:Q1")
def test_message_past_the_case_is_refused(user: AbstractUser, case: Case) -> None:
    client = client_of(user)
    for thread in (case.thread_id, case.thread_id.hex, f"{{{case.thread_id}}}", str(case.thread_id).upper()):
        refused = start(client, thread)
        assert (refused.status_code, refused.json()["code"]) == (403, "send_through_the_case")
        assert refused["Content-Type"] == "application/problem+json"
    assert not Run.objects.exists()
    assert client.get(f"/agent/threads/{case.thread_id}/runs").json() == {"runs": []}


@pytest.mark.covers("threat:T1")
def test_refusal_does_not_tell_strangers_of_the_case(other_user: AbstractUser, case: Case) -> None:
    stranger = client_of(other_user)
    foreign, missing = start(stranger, case.thread_id), start(stranger, uuid4())
    assert foreign.status_code == missing.status_code == 404
    assert foreign.json()["code"] == missing.json()["code"]
    assert start(Client(), case.thread_id).status_code == 401
    assert start(stranger, "no-id").status_code == 404


@pytest.mark.covers("api:Q1")
def test_retry_counts_as_a_message(user: AbstractUser, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "SENDS", RateLimit("send", times=2, seconds=3600))
    client = client_of(user)
    assert post(client, case).status_code == 201
    path = f"/agent/runs/{Run.objects.get().pk}/retry"
    assert client.post(path, content_type=JSON).status_code == 409  # it has not ended; a refusal costs nothing
    assert Allowance.objects.get(action="send").used == 1
    Run.objects.update(status="failed", finished_at="2030-01-01T00:00:00Z")
    assert client.post(path, content_type=JSON).status_code == 201
    assert Allowance.objects.get(action="send").used == 2
    refused = client.post(path, content_type=JSON)
    assert (refused.status_code, refused.json()["code"]) == (429, "send_limit") and refused["Retry-After"]
    assert Run.objects.count() == 2


def test_opening_cases_is_limited(user: AbstractUser, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (views.OPENINGS.times, views.OPENINGS.seconds) == (20, 60)
    monkeypatch.setattr(views, "OPENINGS", RateLimit("open", times=1, seconds=3600))
    client, data = client_of(user), {"subject": "Cup", "priority": "low"}
    assert client.post("/cases/new/", {**data, "subject": ""}).status_code == 422  # costs nothing
    assert client.post("/cases/new/", data).status_code == 302
    refused = client.post("/cases/new/", data)
    assert refused.status_code == 429 and "You have opened many cases." in errors(refused)
    assert Case.objects.count() == 1


@pytest.mark.parametrize("subject", ["\u200b", "\u202e \u2066", "\u3164", "\u0301", "\u2800\u00ad", "\x01"])
def test_subject_without_a_visible_character_is_refused(user: AbstractUser, subject: str) -> None:
    response = client_of(user).post("/cases/new/", {"subject": subject, "priority": "low"})
    assert response.status_code == 422 and not Case.objects.exists()


def test_subject_keeps_no_invisible_character(user: AbstractUser) -> None:
    client_of(user).post("/cases/new/", {"subject": "\u202eLate\r\nparcel\u200b \x1b[1m", "priority": "low"})
    assert Case.objects.get().subject == "Late parcel [1m"


def test_case_waits_while_any_of_its_runs_waits(user: AbstractUser, operator: AbstractUser, case: Case) -> None:
    client = client_of(user)
    for number in range(2):
        assert post(client, case, key=f"key-0000000{number}").status_code == 201
    Run.objects.filter(number=1).update(status="waiting")

    def statuses() -> set[str]:
        return {Case.objects.with_status().get(pk=case.pk).status, Case.objects.get(pk=case.pk).status}

    assert statuses() == {"waiting"}
    newer = open_case(user, "Newer")
    operator.is_superuser = True
    assert list(views.recent_cases(operator)) == [case, newer]
    Run.objects.filter(number=1).update(status="succeeded", finished_at="2030-01-01T00:00:00Z")
    assert statuses() == {"pending"}
    assert list(views.recent_cases(operator)) == [newer, case]


def test_settings_name_no_test_host_and_log_once() -> None:
    assert "testserver" not in demo_settings.ALLOWED_HOSTS
    loggers: dict[str, Any] = demo_settings.LOGGING["loggers"]  # type: ignore[assignment]
    assert set(loggers) == {"agentcore", "supportdemo", "django"}
    assert not any(logger["propagate"] for logger in loggers.values())
