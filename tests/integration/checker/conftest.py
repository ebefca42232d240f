"""A world in which nothing has happened yet."""

from __future__ import annotations

import pytest

from tests.integration.checker import crime


@pytest.fixture(autouse=True)
def _nothing_happened(db: None) -> None:
    crime.HAPPENED.clear()
