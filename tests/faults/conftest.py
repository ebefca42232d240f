"""Which combinations of test, database and worker a run takes (tests/taking.py), and what fault tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection

from tests.faults import postgres
from tests.stack import WORKERS, WORKERS_VARIABLE

FIXTURES = {"stack", "outage_stack"}


@pytest.fixture(autouse=True)
def workers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the stack's workers those that this combination is about."""
    if kind := getattr(request, "param", ""):
        monkeypatch.setenv(WORKERS_VARIABLE, kind)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let a test that starts workers be there once for each kind."""
    config = metafunc.config
    if not config.getoption("take") or config.getoption("workers"):
        return
    own = any(mark.name == "own_workers" for mark in metafunc.definition.iter_markers())
    if FIXTURES & set(metafunc.fixturenames) and not own:
        metafunc.parametrize("workers", list(WORKERS), indirect=True)


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
