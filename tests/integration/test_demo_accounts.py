"""The demo's people: seeded once, logged in with care."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractUser
from django.core.management import call_command
from django.test import Client

from supportdemo.accounts.people import seed_people
from supportdemo.cases.models import Order
from supportdemo.cases.seed import seed_orders

from .demo import client_of

pytestmark = pytest.mark.django_db


def test_seeding_twice_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        call_command("seed_demo")
    first, second = capsys.readouterr().out.splitlines()
    assert first == second == "seeded: ada, bob, olga (password = name); 5 articles, 5 orders"
    assert (Order.objects.count(), Order.objects.filter(customer__username="ada").count()) == (5, 4)


def test_seeded_operator_may_decide_and_see_but_is_no_superuser() -> None:
    seed_people()
    olga = get_user_model().objects.get(username="olga")
    assert olga.is_staff and not olga.is_superuser
    for permission in ("agentcore.decide_approval", "agentcore.view_any_thread", "agentcore.view_run"):
        assert olga.has_perm(permission)
    assert not olga.has_perm("agentcore.delete_run")
    ada = get_user_model().objects.get(username="ada")
    assert not ada.is_staff and not ada.has_perm("agentcore.decide_approval")
    seed_orders()


def test_demo_logins_are_shown_in_development_only(settings: Any) -> None:
    assert b"data-ac-demo-logins" not in Client().get("/accounts/login/").content
    settings.DEBUG = True
    assert b"data-ac-demo-logins" in Client().get("/accounts/login/").content


@pytest.mark.covers("threat:T29")
@pytest.mark.usefixtures("one_window")
def test_log_in_stays_on_this_host_and_limits_guesses(settings: Any) -> None:
    settings.LOGIN_REDIRECT_URL = "cases:list"
    seed_people()
    good = {"username": "ada", "password": "ada"}
    assert Client().post("/accounts/login/?next=https://evil.example/", good)["Location"] == "/cases/"
    unknown = Client().post("/accounts/login/", {"username": "nobody", "password": "x"})
    wrong = Client().post("/accounts/login/", {"username": "bob", "password": "x"})
    assert unknown.context["form"].non_field_errors() == wrong.context["form"].non_field_errors()
    for _ in range(12):
        assert Client().post("/accounts/login/", good).status_code == 302  # right guesses are not counted
    for _ in range(9):
        Client().post("/accounts/login/", {"username": "bob", "password": "x"})
    limited = Client().post("/accounts/login/", {"username": "bob", "password": "bob"})
    assert "Too many attempts" in str(limited.context["form"].non_field_errors())


def test_log_out_is_a_post(user: AbstractUser) -> None:
    client = client_of(user)
    assert client.get("/accounts/logout/").status_code == 405
    assert client.post("/accounts/logout/").status_code == 302 and client.get("/cases/").status_code == 302
