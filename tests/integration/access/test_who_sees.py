"""One policy for services, HTTP, websocket and admin: what is not yours is not there, wherever you ask."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import AbstractUser
from django.db.models import QuerySet
from django.urls import reverse

from agentcore.access import OwnerPolicy
from agentcore.exceptions import NotFound
from agentcore.models import Thread
from agentcore.services import approvals, runs, threads
from tests.integration.access.doors import DOORS, ENTRIES, World, client_of
from tests.integration.access.people import People

pytestmark = pytest.mark.django_db

SEES = {
    "owner": True,
    "operator": True,
    "canceller": True,
    "stranger": False,
    "decider": False,
    "inactive": False,
    "permitted but no staff": False,
    "anonymous": False,
}


@pytest.mark.covers("dj:PRM-3", "dj:WS-4", "dj:SEC-2", "promise:P9")
@pytest.mark.parametrize("entry", DOORS)
@pytest.mark.parametrize(("who", "sees"), SEES.items())
def test_who_sees_a_thread_and_its_runs_is_the_same_at_every_door(
    people: People, world: World, entry: str, who: str, sees: bool
) -> None:
    assert ENTRIES[entry](people[who], world) == {sees}


class OpenToBob(OwnerPolicy):
    """A project's own policy: Bob sees everything, and nobody else anything."""

    def visible_threads(self, user: Any, threads: QuerySet[Thread]) -> QuerySet[Thread]:
        return threads if getattr(user, "username", "") == "bob" else threads.none()


@pytest.mark.covers("dj:PRM-3")
@pytest.mark.parametrize("entry", DOORS)
def test_a_projects_own_policy_decides_at_every_door(
    people: People, world: World, settings: LazySettings, entry: str
) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "ACCESS_POLICY": f"{__name__}.OpenToBob"}
    assert ENTRIES[entry](people["stranger"], world) == {True}
    assert ENTRIES[entry](people["owner"], world) == {False}


@pytest.mark.covers("dj:PRM-3")
@pytest.mark.parametrize(
    ("who", "sees"),
    [(who, who in ("owner", "operator", "canceller", "decider")) for who in SEES],
)
def test_who_sees_an_approval_is_the_same_at_every_door(people: People, world: World, who: str, sees: bool) -> None:
    user = people[who]
    assert [*approvals.pending(user=user)] == [world.approval] * sees
    client = client_of(user)
    answer = client.get("/agent/approvals")
    listed = [item["id"] for item in answer.json().get("approvals", [])]
    assert listed == [str(world.approval.pk)] * sees
    page = client.get(reverse("admin:agentcore_approval_change", args=[world.approval.pk]))
    assert (page.status_code == 200) == sees


@pytest.mark.parametrize("wrong", ["", "no uuid", "1", None, 7, "../etc"])
def test_an_id_that_cannot_be_one_is_not_there(user: AbstractUser, wrong: Any) -> None:
    with pytest.raises(NotFound):
        threads.get(wrong, user=user)
    with pytest.raises(NotFound):
        runs.get(wrong, user=user)
