"""Fixtures of the tests of the hub: its settings, its layer, and the reads it makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.conf import LazySettings

from agentcore.streams import hints, log
from agentcore.streams.log import Entry
from supportdemo.servers import RedisServer, start_redis


@pytest.fixture
def poll(settings: LazySettings) -> Callable[[float], None]:
    """Sets how often the hub polls."""

    def every(seconds: float) -> None:
        settings.AGENTCORE = {**settings.AGENTCORE, "POLL_SECONDS": seconds}

    return every


@pytest.fixture
def layer(settings: LazySettings) -> Callable[..., None]:
    """Sets the channel layer."""

    def use(backend: str | None, url: str = "", **config: Any) -> None:
        hosts = [{"address": url or settings.REDIS_URL, "socket_timeout": None}]
        if backend is None:
            settings.CHANNEL_LAYERS = {}
        elif "InMemory" in backend:
            settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend}}
        else:
            settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend, "CONFIG": {"hosts": hosts, **config}}}

    return use


@pytest.fixture(autouse=True)
def _nothing_left_to_send() -> Iterator[None]:
    yield
    hints.flush(5)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[UUID, int]]:
    """The reads the hub makes."""
    made: list[Mapping[UUID, int]] = []
    real = log.read_batch

    def counted(cursors: Mapping[UUID, int], limit: int = 500) -> dict[UUID, list[Entry]]:
        made.append(dict(cursors))
        return real(cursors, limit)

    monkeypatch.setattr(log, "read_batch", counted)
    return made


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis a test may stop."""
    server = start_redis(tmp_path)
    yield server
    server.stop()
