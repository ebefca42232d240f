"""Fixtures of the tests of the JSON API, and of those of the admin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from agentcore.declaration import registry
from tests.integration.api_room import Caller, World, build
from tests.integration.office import Clerk, staff


@pytest.fixture
def world(user: Any, other_user: Any, operator: Any) -> Iterator[World]:
    """A thread of `user` with two runs, and the people who ask for it."""
    with registry.isolated():
        yield build(user, other_user, operator)


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
def olga(client: Client) -> Any:
    """An operator, logged in, who may decide and nothing else."""
    person = staff("olga", "decide_approval")
    client.force_login(person)
    return person
