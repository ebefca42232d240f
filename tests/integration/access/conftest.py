"""Fixtures of the tests of the access policy: everybody who may knock, and what there is to see."""

from __future__ import annotations

from typing import Any

import pytest

from agentcore.models import Approval
from agentcore.testing import run_until_idle
from tests.integration.access.doors import World
from tests.integration.access.people import People
from tests.testapp import agents


@pytest.fixture
def people() -> People:
    """Everybody who may knock."""
    return People()


@pytest.fixture
def world(people: People, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> World:
    """What there is to see."""
    monkeypatch.setenv("WORLD_LOG", str(tmp_path / "world.log"))
    thread = agents.gated.threads.create(user=people["owner"], title="Ada's own")
    run = run_until_idle(agents.gated.runs.send(thread, "please", user=people["owner"]))
    return World(thread, run, Approval.objects.get())
