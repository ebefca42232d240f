"""Fixtures of the fault tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection

from tests.faults import postgres


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
