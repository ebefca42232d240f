"""What tests of live streams share: writing as another process would, reading with a deadline, bad channel layers."""

from __future__ import annotations

import asyncio
import gc
import json
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from unittest import mock
from uuid import UUID, uuid4

from channels_redis.pubsub import RedisPubSubChannelLayer
from django.db import connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from agentcore.realtime.database import query
from agentcore.streams import log
from agentcore.streams.hub import Hub
from agentcore.streams.log import Entry
from agentcore.streams.models import Stream
from agentcore.streams.subscription import Subscription


def payload(seq: int, now: object = None) -> bytes:
    """The record every test writes at a position."""
    return json.dumps({"v": 1, "seq": seq, "type": "text.delta", "step": 1, "text": f"word {seq}"}).encode()


async def make_stream() -> UUID:
    """A new, empty stream of its own sequencer."""
    stream: Stream = await query(log.create, f"test:{uuid4()}")
    return stream.pk


async def append(stream_id: UUID, count: int = 1) -> int:
    """Append on a thread that keeps no connection, as another process would."""
    return await query(log.append, stream_id, [payload] * count)


async def append_to_all(stream_ids: Sequence[UUID], count: int = 1) -> None:
    """Append to several streams in one commit."""

    def commit() -> None:
        told: list[log.Append] = []
        with transaction.atomic():
            with mock.patch.object(log, "announce", told.extend):
                for stream_id in sorted(stream_ids):
                    log.append(stream_id, [payload] * count)
            log.announce(told)  # at once, as a batch of the journal does

    await query(commit)


async def take(subscription: Subscription, count: int, timeout: float = 10) -> list[Entry]:
    """The next `count` entries at least; fails with what came when they do not come in time."""
    got: list[Entry] = []
    try:
        async with asyncio.timeout(timeout):
            while len(got) < count:
                got += await subscription.next()
    except TimeoutError as late:
        raise AssertionError(f"{len(got)} of {count} entries came: {[entry.seq for entry in got][:20]}") from late
    return got


async def eventually(predicate: Callable[[], Awaitable[Any] | Any], timeout: float = 10, every: float = 0.02) -> Any:
    """Ask until the answer is true and return it."""
    async with asyncio.timeout(timeout):
        while True:
            answer = predicate()
            answer = await answer if isinstance(answer, Awaitable) else answer
            if answer:
                return answer
            await asyncio.sleep(every)


async def joined() -> None:
    """Wait until this loop's hub hears hints."""
    work = Hub.current()._work
    assert work is not None and work.link is not None
    link = work.link
    await eventually(lambda: link.joined)


def open_connections() -> int:
    """Connections to the test database, with the one that asks."""
    if connection.vendor == "sqlite":  # keeps no list, and its files stay open while any connection holds a lock
        wrappers = [item for item in gc.get_objects() if isinstance(item, BaseDatabaseWrapper)]
        return sum(wrapper.connection is not None for wrapper in wrappers)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


class ChaosLayer(RedisPubSubChannelLayer):
    """Drops a third of all messages, sends a third twice, and holds others back to send them out of order."""

    def __init__(self, *args: Any, seed: int = 1, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._random = random.Random(seed)
        self._held: list[tuple[str, dict[str, Any]]] = []

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Send something, perhaps this."""
        send = self._get_layer().group_send
        fate = self._random.random()
        if fate < 0.33:
            return
        self._held += [(group, message)] * (2 if fate > 0.66 else 1)
        if len(self._held) > 5:
            self._random.shuffle(self._held)
            while len(self._held) > 2:
                await send(*self._held.pop())


class DeafLayer(RedisPubSubChannelLayer):
    """Loses every message."""

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Send nothing."""
