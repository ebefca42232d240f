"""Fixtures of the tests of the thread socket: its people, its thread, and how often it does things."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.conf import LazySettings

from agentcore.models import Thread
from tests.integration.sockets import (
    log_in,
    make_thread,
)


@pytest.fixture
def users(django_user_model: Any, transactional_db: None) -> tuple[Any, Any]:
    """The owner and a stranger."""
    create = django_user_model.objects.create_user
    return create("ada", "ada@example.com", "pw"), create("bob", "bob@example.com", "pw")


@pytest.fixture
def thread(users: tuple[Any, Any]) -> Thread:
    return make_thread(users[0])


@pytest.fixture
def session(users: tuple[Any, Any]) -> str:
    return log_in(users[0])


@pytest.fixture
def every(settings: LazySettings) -> Callable[..., None]:
    """Sets how often things are done, by the setting's name without its unit."""

    def set_seconds(**seconds: float) -> None:
        given = {f"{name.upper()}_SECONDS": value for name, value in seconds.items()}
        settings.AGENTCORE = {**settings.AGENTCORE, **given}

    return set_seconds
