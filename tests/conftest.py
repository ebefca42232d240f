"""Fixtures every test may use: people, threads, and a stack of real processes."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from multiprocessing import forkserver, process, resource_tracker
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import LazySettings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractUser, Permission
from django.db import connections
from rq import Queue

from agentcore.declaration import registry
from agentcore.services import dispatch
from agentcore.streams import hints
from supportdemo.servers import start_redis
from tests import emptied
from tests.distributions import dist, sdist, wheel  # noqa: F401 - fixtures, of which a run makes each once
from tests.servers import DIRECTORY_VARIABLE, settings_module
from tests.stack import WORKERS, Stack
from tests.taking import Row, is_taken

FAULTS = Path(__file__).parent / "faults"
PAGES = Path(__file__).parent / "docs"
PROCESSES = {"stack", "outage_stack", "project", "nowhere"}
"""Fixtures whose tests start processes."""
ADDRESS = re.compile(r" at 0x[0-9a-f]{6}")


emptied.install()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> None:
    """Make the test databases, and remember what is to stay in them."""
    with django_db_blocker.unblock():
        for alias in connections:
            emptied.remember(alias)


@pytest.fixture(autouse=True)
def own_hints() -> Iterator[None]:
    """Hints are sent while the test lasts, not during the next one."""
    yield
    hints.close(10)


@pytest.fixture(scope="session", autouse=True)
def fork_server() -> Iterator[None]:
    """Have a worker in this process fork its suspects from one server, which lives as long as the process."""
    config: dict[str, Any] = process.current_process()._config  # type: ignore[attr-defined]
    config["tempdir"] = tempfile.mkdtemp(dir=os.environ[DIRECTORY_VARIABLE])  # for its socket, whose path must be short
    yield
    server: Any = forkserver._forkserver  # type: ignore[attr-defined]
    if server._forkserver_pid is not None:
        server._stop()  # as Python's own tests do
        resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]
    shutil.rmtree(config.pop("tempdir"), ignore_errors=True)


@pytest.fixture(autouse=True)
def own_agents() -> Iterator[None]:
    """Forget the agents that a test declares: names are taken once in a process."""
    with registry.isolated():
        yield


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
def queue(settings: LazySettings) -> Iterator[Queue]:
    """agentcore's queue in the run's Redis, emptied."""
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        client.flushall()
        yield Queue("agentcore", connection=client)


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
    """Leave what is about PostgreSQL to its pass, and what the make target does not take to another."""
    on_postgres, target = "postgres" in settings_module(config), config.getoption("take")
    for item in items:
        if ADDRESS.search(item.nodeid):
            raise pytest.UsageError(f"{item.nodeid} has an address in its id, another one in each process: give it ids")
    rows = _rows(items, on_postgres)
    kept = [
        item
        for item, row in rows.items()
        if (on_postgres or not item.get_closest_marker("postgres")) and (not target or is_taken(row, target))
    ]
    if len(kept) < len(items):
        taken = set(kept)
        config.hook.pytest_deselected(items=[item for item in items if item not in taken])
    items[:] = _mixed(kept, rows) if target else kept


def _mixed(items: list[pytest.Item], rows: dict[pytest.Item, Row]) -> list[pytest.Item]:
    """Spread tests that wait for processes among those that compute, so that the processors always have work.

    They come in the first part of the run, and those that need minutes at its beginning: at the end of it one worker
    would work on them alone.
    """
    minutes = [item for item in items if item.get_closest_marker("timeout")]
    seconds = [item for item in items if rows[item].sampled and not item.get_closest_marker("timeout")]
    places = {item: number / len(items) for number, item in enumerate(items)}
    for group, part in ((minutes, 0.3), (seconds, 0.7)):
        places |= {item: part * number / len(group) for number, item in enumerate(group)}
    return sorted(items, key=places.__getitem__)


def _rows(items: list[pytest.Item], on_postgres: bool) -> dict[pytest.Item, Row]:
    rows, numbers = {}, Counter[tuple[str, int]]()
    for item in sorted(items, key=lambda item: item.nodeid):  # the order of the run is random
        row = _row(item, on_postgres)
        among = str(item.path) if row.sampled else item.nodeid.partition("[")[0], row.kind
        rows[item] = replace(row, number=numbers[among])
        numbers[among] += not row.longer
    return rows


def _row(item: pytest.Item, on_postgres: bool) -> Row:
    params = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    kind = str(params.get("workers", ""))
    kinds = list(WORKERS) if kind else []
    marks = {mark.name for mark in item.iter_markers()}
    fault, page = FAULTS in item.path.parents, PAGES in item.path.parents
    return Row(
        # Without the kind, so that the kinds of a test share its fate.
        name=item.nodeid.replace(kind, ""),
        on_postgres=on_postgres,
        fault=fault,
        once="once" in marks,
        only_postgres="postgres" in marks,
        longer="longer" in marks,
        kind=kinds.index(kind) if kind else 0,
        kinds=len(kinds),
        sampled=(fault or page or "browser" in marks) and bool(PROCESSES & set(getattr(item, "fixturenames", ()))),
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what a stack's processes wrote last when its test fails."""
    report = yield
    if report.when == "call" and report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Stack):
                report.sections.append(("processes of the stack", value.tails()))
    return report
