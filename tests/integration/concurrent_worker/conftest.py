"""A Redis that a test may stop, agentcore's queue in it, and drives in place of the engine's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from redis import Redis

from agentcore.jobs import concurrent
from agentcore.services import dispatch, execution
from supportdemo.servers import RedisServer, start_redis
from tests.integration.rq_room import Drives, queue_of


@pytest.fixture
def server(tmp_path: Path, settings: LazySettings) -> Any:
    """A Redis the test may stop."""
    running = start_redis(tmp_path)
    settings.RQ_QUEUES = {"agentcore": {"URL": running.url, "SERIALIZER": "rq.serializers.JSONSerializer"}}
    yield running
    dispatch.forget()
    running.stop()


@pytest.fixture
def queue(server: RedisServer) -> Any:
    """agentcore's queue in it."""
    with Redis.from_url(server.url) as client:
        yield queue_of(client)


@pytest.fixture
async def drives(monkeypatch: pytest.MonkeyPatch, settings: LazySettings) -> Drives:
    """In place of the engine, and of the sweep."""
    settings.AGENTCORE = {**settings.AGENTCORE, "DRAIN_SECONDS": 3}

    class NoSweeper:
        def __init__(self, name: str) -> None:
            self.start = self.stop = lambda: None
            self.join = lambda seconds: None

    found = Drives()
    monkeypatch.setattr(execution, "adrive", found.adrive)
    monkeypatch.setattr(concurrent, "Sweeper", NoSweeper)
    return found
