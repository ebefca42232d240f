"""Fixtures of the tests of the demo's provider: the server that it asks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agentcore.testing.faults.http_model import HttpModel


@pytest.fixture
def provider() -> Iterator[HttpModel]:
    """A server that speaks the chat-completions wire."""
    with HttpModel() as server:
        yield server
