"""Fixtures of several files: time enough on a busy machine, and the scenes of the API, the admin and the demo."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import AbstractUser, Permission
from django.db import connection
from django.test import Client

from supportdemo.cases.models import Case
from tests.integration import decision_room, doomed
from tests.integration.api_room import Caller, World, build
from tests.integration.demo import open_case
from tests.integration.office import Clerk, staff


@pytest.fixture
def long_lease(settings: LazySettings) -> None:
    """No run's lease runs out before a test says so, however busy the machine is."""
    settings.AGENTCORE = {**settings.AGENTCORE, "LEASE_SECONDS": 30}


@pytest.fixture
def long_turn(long_lease: None, settings: LazySettings) -> None:
    """No sweeper's turn is over before a test says so; it is as long as a few passes, and shorter than a lease."""
    settings.AGENTCORE = {**settings.AGENTCORE, "SWEEP_SECONDS": 10}


@pytest.fixture
def long_grace(settings: LazySettings) -> None:
    """A hint that has gone out stays the only one while the test lasts; one that is ten minutes old never is."""
    settings.AGENTCORE = {**settings.AGENTCORE, "HINT_GRACE_SECONDS": 15}


@pytest.fixture
def nothing_paid() -> None:
    """The tools of the decision room have paid nobody yet."""
    decision_room.PAID.clear()


@pytest.fixture
def nobody_died() -> Iterator[None]:
    """The tools and models of the doomed are as they were."""
    doomed.WORLD.__init__()  # type: ignore[misc]
    yield
    doomed.WORLD.__init__()  # type: ignore[misc]  # an exception that a check has raised keeps all that it came by


@pytest.fixture
def world(user: Any, other_user: Any, operator: Any) -> World:
    """A thread of `user` with two runs, and the people who ask for it."""
    return build(user, other_user, operator)


@pytest.fixture
def owner(world: World) -> Caller:
    """The browser of the thread's owner."""
    return world.callers["owner"]


@pytest.fixture
def one_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """No window of a rate limit ends in the middle of the test."""
    monkeypatch.setattr("supportdemo.accounts.limits.time.time", lambda: 3600.0 * 100 + 10)


@pytest.fixture
def clerk() -> Clerk:
    """A clerk whose runs operators look at."""
    return Clerk()


@pytest.fixture
def root(client: Client) -> Any:
    """A superuser, logged in."""
    person = staff("root", superuser=True)
    client.force_login(person)
    return person


@pytest.fixture
def olga(client: Client) -> Any:
    """An operator, logged in, who may decide and nothing else."""
    person = staff("olga", "decide_approval")
    client.force_login(person)
    return person


@pytest.fixture
def case(user: AbstractUser) -> Case:
    """A case of `user` at the support desk."""
    return open_case(user)


@pytest.fixture
def supervisor(operator: AbstractUser) -> AbstractUser:
    """An operator who sees every case."""
    operator.user_permissions.add(Permission.objects.get(codename="view_any_thread"))
    return type(operator).objects.get(pk=operator.pk)


@pytest.fixture
def unhurried(db: None) -> None:
    """The test's own transaction may be idle for long: examples are made up in it, on a machine that may be busy."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
