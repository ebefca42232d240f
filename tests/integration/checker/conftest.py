"""A world in which nothing has happened yet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agentcore.declaration import registry
from tests.integration.checker import crime


@pytest.fixture(autouse=True)
def _clean(db: None) -> Iterator[None]:
    crime.HAPPENED.clear()
    with registry.isolated():
        yield
