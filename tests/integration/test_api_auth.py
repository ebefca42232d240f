"""Who calls the API is for the project to say; the CSRF token belongs to the session, and to nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.core.checks import run_checks
from django.http import HttpRequest
from ninja.errors import HttpError

from tests.integration.api_room import BASE, Caller, ok, problem

pytestmark = [pytest.mark.once, pytest.mark.django_db]
SESSION = "agentcore.web.auth.session"


def token(request: HttpRequest) -> Any:
    """A project's own way: the name is the token."""
    scheme, _, name = request.headers.get("Authorization", "").partition(" ")
    return get_user_model().objects.filter(username=name).first() if scheme == "Bearer" else None


def nobody(request: HttpRequest) -> Any:
    """A way that answers with somebody who is not signed in."""
    return AnonymousUser()


REFUSAL: dict[str, HttpError] = {}


def refuses(request: HttpRequest) -> Any:
    """A way that refuses by itself, whoever it is."""
    raise REFUSAL["error"]


@pytest.fixture(params=["token", "token and session"])
def way(request: pytest.FixtureRequest, settings: LazySettings) -> str:
    paths = [f"{__name__}.token", *([SESSION] if "session" in request.param else [])]
    settings.AGENTCORE = {**settings.AGENTCORE, "API_AUTH": paths}
    return str(request.param)


def cancel(caller: Caller, run: Any, **headers: str) -> Any:
    return caller.client.post(f"{BASE}runs/{run.pk}/cancel", "{}", content_type="application/json", headers=headers)


@pytest.mark.covers("fc:E13")
def test_a_token_needs_no_csrf_token(world: Any, way: str) -> None:
    stranger = world.callers["anonymous"]
    problem(cancel(stranger, world.waiting), 401, "not_signed_in")
    problem(cancel(stranger, world.waiting, Authorization="Bearer nobody"), 401, "not_signed_in")
    problem(cancel(stranger, world.waiting, Authorization="Bearer bob"), 404, "not_found")
    assert ok(cancel(stranger, world.waiting, Authorization="Bearer ada"))["status"] == "canceled"


@pytest.mark.covers("fc:E13")
def test_a_session_needs_its_token_and_counts_only_where_it_is_named(world: Any, way: str) -> None:
    owner = world.callers["owner"]
    only_token = way == "token"
    problem(cancel(owner, world.waiting), *((401, "not_signed_in") if only_token else (403, "csrf_failed")))
    answer = cancel(owner, world.waiting, **{"X-CSRFToken": owner.token})
    assert answer.status_code == (401 if only_token else 200)


@pytest.mark.covers("fc:E13")
def test_the_token_wins_over_the_session_and_is_the_user_of_all_that_follows(world: Any, way: str) -> None:
    owner = world.callers["owner"]
    problem(cancel(owner, world.waiting, Authorization="Bearer bob", **{"X-CSRFToken": owner.token}), 404)


@pytest.mark.covers("fc:E13")
def test_who_is_inactive_or_nobody_is_not_let_in(world: Any, settings: LazySettings) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "API_AUTH": [f"{__name__}.nobody", f"{__name__}.token"]}
    get_user_model().objects.filter(username="ada").update(is_active=False)
    problem(cancel(world.callers["anonymous"], world.waiting, Authorization="Bearer ada"), 401, "not_signed_in")


@pytest.mark.covers("fc:E13")
@pytest.mark.parametrize(
    "value, found",
    [
        (["no.such.function"], "agentcore.E009"),
        (["agentcore.access.SYSTEM"], "agentcore.E009"),
        ("agentcore.web.auth.session", "agentcore.E002"),
        ([], "agentcore.E002"),
        ([7], "agentcore.E002"),
        ((SESSION,), ""),
    ],
)
def test_check_says_what_cannot_work(settings: LazySettings, value: Any, found: str) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "API_AUTH": value}
    ids = {message.id for message in run_checks(tags=["agentcore"])}
    assert {"agentcore.E009", "agentcore.E002"} & ids == ({found} if found else set())


@pytest.mark.covers("fc:E13")
@pytest.mark.parametrize(
    ("status", "said", "code", "detail"),
    [
        (403, "This address is blocked.", "not_allowed", "This address is blocked."),
        (403, "", "not_allowed", "You may see this, but not do that. Ask someone with the permission."),
        (401, "The token has expired", "not_signed_in", "The token has expired."),
        (429, "Too many requests.", "http_error", "Too many requests."),
    ],
)
def test_a_refusal_by_the_projects_own_way_is_told_as_that_and_not_as_a_csrf_failure(
    world: Any, settings: LazySettings, monkeypatch: pytest.MonkeyPatch, status: int, said: str, code: str, detail: str
) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "API_AUTH": [f"{__name__}.refuses"]}
    monkeypatch.setitem(REFUSAL, "error", HttpError(status, said))
    answer = cancel(world.callers["owner"], world.waiting)
    problem(answer, status, code)
    assert answer.json()["detail"] == detail
