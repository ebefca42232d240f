"""Fixtures every test may use: people, threads, and a stack of real processes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import LazySettings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractUser, Permission

from agentcore import dispatch
from supportdemo.servers import start_redis
from tests.servers import settings_module
from tests.stack import Stack

FAULTS = Path(__file__).parent / "faults"


@pytest.fixture
def user(db: None) -> AbstractUser:
    """A customer."""
    return get_user_model().objects.create_user("ada", "ada@example.com", "pw")


@pytest.fixture
def other_user(db: None) -> AbstractUser:
    """A stranger to everything `user` owns."""
    return get_user_model().objects.create_user("bob", "bob@example.com", "pw")


@pytest.fixture
def operator(db: None) -> AbstractUser:
    """A member of staff who may decide approvals, and nothing else."""
    person = get_user_model().objects.create_user("olga", "olga@example.com", "pw", is_staff=True)
    person.user_permissions.add(Permission.objects.get(content_type__app_label="agentcore", codename="decide_approval"))
    return get_user_model().objects.get(pk=person.pk)  # without the permissions cached before the grant


@pytest.fixture
def make_thread(user: AbstractUser) -> Callable[..., Any]:
    """A function that makes a thread for `user`, or for the owner it is given."""

    def make(agent: str = "echo", owner: AbstractUser | None = None, title: str = "A thread") -> Any:
        from tests.testapp import agents

        return getattr(agents, agent).threads.create(user=owner or user, title=title)

    return make


@pytest.fixture
def thread(make_thread: Callable[..., Any]) -> Any:
    """A thread of `user`."""
    return make_thread()


@pytest.fixture
def stack(transactional_db: None, tmp_path: Path, settings: LazySettings) -> Iterator[Stack]:
    """Processes on the test database and the run's Redis, emptied first."""
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        client.flushall()
    with Stack(tmp_path) as running:
        yield running


@pytest.fixture
def outage_stack(transactional_db: None, tmp_path: Path, settings: LazySettings) -> Iterator[Stack]:
    """A stack with a Redis of its own, which the test may stop; this process uses that Redis too."""
    server = start_redis(tmp_path)
    settings.REDIS_URL = server.url
    settings.RQ_QUEUES = {"agentcore": {**settings.RQ_QUEUES["agentcore"], "URL": server.url}}
    layer = settings.CHANNEL_LAYERS["default"]
    hosts = [{"address": server.url, "socket_timeout": None}]
    settings.CHANNEL_LAYERS = {"default": {**layer, "CONFIG": {"hosts": hosts}}}
    dispatch.forget()  # it may hold a client of the run's Redis
    with Stack(tmp_path, redis=server) as running:
        yield running
    dispatch.forget()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave what is about PostgreSQL to the PostgreSQL pass, and the other part to another run."""
    elsewhere = {item for item in items if _is_elsewhere(item, config)}
    if elsewhere:
        config.hook.pytest_deselected(items=[item for item in items if item in elsewhere])
        items[:] = [item for item in items if item not in elsewhere]


def _is_elsewhere(item: pytest.Item, config: pytest.Config) -> bool:
    if item.get_closest_marker("postgres") and "postgres" not in settings_module(config):
        return True
    part = config.getoption("part")
    return bool(part) and (part == "faults") is not (FAULTS in item.path.parents)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what a stack's processes wrote last when its test fails."""
    report = yield
    if report.when == "call" and report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Stack):
                report.sections.append(("processes of the stack", value.tails()))
    return report
