"""Which combinations of test, database and worker a run of the suite takes.

There are two databases and two kinds of worker. `make matrix` takes all of them
(`--matrix`). `make test` takes each test once, on PostgreSQL and with the concurrent
worker, and a sample of the other combinations (`--sample`), which is the same every
time: on PostgreSQL a third of the tests with the stock worker too, on SQLite a third
of the tests, with one worker or the other. Without either, a run takes the tests as
they are, with the worker that `--workers` names.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import pytest
from django.db import connection

from tests.faults import postgres
from tests.servers import settings_module
from tests.stack import WORKERS, WORKERS_VARIABLE

FIXTURES = {"stack", "outage_stack"}
ONE_IN = 3


@pytest.fixture(autouse=True)
def workers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the stack's workers those that this combination is about."""
    if kind := getattr(request, "param", ""):
        monkeypatch.setenv(WORKERS_VARIABLE, kind)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let a test that starts workers be there once for each kind."""
    config = metafunc.config
    if not (config.getoption("matrix") or config.getoption("sample")) or config.getoption("workers"):
        return
    own = any(mark.name == "own_workers" for mark in metafunc.definition.iter_markers())
    if FIXTURES & set(metafunc.fixturenames) and not own:
        metafunc.parametrize("workers", list(WORKERS), indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the sample, where only a sample was asked for."""
    if not config.getoption("sample"):
        return
    on_postgres = "postgres" in settings_module(config)
    combinations = [item for item in items if FIXTURES & set(getattr(item, "fixturenames", ()))]
    kept = [item for item in combinations if _is_taken(item, on_postgres)]
    left_out = set(combinations) - set(kept)
    config.stash[COUNTS] = (len(kept), len(combinations))
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]


COUNTS = pytest.StashKey[tuple[int, int]]()


def pytest_report_collectionfinish(config: pytest.Config) -> str:
    """Say how much of the matrix this is."""
    kept, of = config.stash.get(COUNTS, (0, 0))
    return f"faults: {kept} of {of} combinations with this database; make matrix takes all" if of else ""


def _is_taken(item: pytest.Item, on_postgres: bool) -> bool:
    if item.get_closest_marker("once"):
        return True
    callspec = getattr(item, "callspec", None)
    kind = callspec.params.get("workers", "") if callspec is not None else ""
    # Over the name without the kind, so that the kinds share a test's fate; not hash(), which is another every time.
    lot = zlib.crc32(item.nodeid.replace(str(kind), "").encode())
    if on_postgres:
        return kind != "stock" or lot % ONE_IN == 0
    on_sqlite = list(WORKERS)[lot // ONE_IN % len(WORKERS)]
    return lot % ONE_IN == 1 and kind in ("", on_sqlite)


# --- fixtures -------------------------------------------------------------------------------------------------------


@pytest.fixture
def strict_sessions(transactional_db: None) -> Iterator[None]:
    """New sessions are serializable, and look for a deadlock after a second."""
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    options = {"default_transaction_isolation": "serializable", "deadlock_timeout": "1s"}
    with postgres.session() as admin:
        for option, value in options.items():
            admin.execute(f"ALTER DATABASE {name} SET {option} = '{value}'")
        yield
        for option in options:
            admin.execute(f"ALTER DATABASE {name} RESET {option}")
