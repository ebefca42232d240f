"""Following a stream is complete when hints are lost, Redis dies or the database fails for a while."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from uuid import UUID

import pytest
import redis
from django.db import OperationalError

from agentcore.realtime.database import query
from agentcore.streams import hints, link, log
from agentcore.streams.hub import Hub
from agentcore.streams.log import Entry
from agentcore.streams.subscription import Subscription
from supportdemo.servers import RedisServer, free_port, start_redis
from tests.integration.hub.watching import CORE, HERE, PUBSUB, SELDOM, listens
from tests.integration.live import append, append_to_all, eventually, joined, make_stream, take

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.covers("fault:S4", "dj:WS-6")
async def test_lost_hints_cost_a_poll_and_nothing_else(
    poll: Callable[[float], None], layer: Callable[..., None]
) -> None:
    poll(0.2)
    layer(f"{HERE}.DeafLayer")
    stream_id = await make_stream()
    async with Hub.current().watch(stream_id) as subscription:
        for seq in range(5):
            await append(stream_id)
            assert [entry.seq for entry in await take(subscription, 1)] == [seq]


@pytest.mark.longer
@pytest.mark.covers("dj:WS-6", "fault:S1", "fault:S4", "fault:S5")
@pytest.mark.parametrize("backend", [f"{HERE}.ChaosLayer", CORE], ids=["drops, doubles and shuffles", "capacity 5"])
async def test_ten_thousand_events_over_a_bad_layer_and_many_disconnects_arrive_exactly_once(
    backend: str, poll: Callable[[float], None], layer: Callable[..., None]
) -> None:
    poll(0.2)
    layer(backend, **({"capacity": 5} if backend == CORE else {}))
    total = 5_000
    streams = [await make_stream(), await make_stream()]
    hub = Hub.current()

    async def write() -> None:
        dice, written = random.Random(5), 0
        while written < total:
            count = min(dice.randint(1, 30), total - written)
            await append_to_all(streams, count)
            written += count

    async def follow(stream_id: UUID, seed: int) -> list[int]:
        dice, got = random.Random(seed), []
        while len(got) < total:
            async with hub.watch(stream_id, got[-1] if got else -1) as subscription:
                for _ in range(dice.randint(1, 60)):
                    got += [entry.seq for entry in await take(subscription, 1, timeout=30)]
                    if len(got) >= total:
                        break
                    if dice.random() < 0.1:
                        await asyncio.sleep(dice.random() / 20)
        return got

    async with asyncio.TaskGroup() as group:
        followers = [group.create_task(follow(streams[seed % 2], seed)) for seed in range(4)]
        group.create_task(write())
    for follower in followers:
        assert follower.result() == list(range(total))


@pytest.mark.covers("fault:S10", "dj:WS-10", "promise:P7")
@pytest.mark.parametrize("backend", [PUBSUB, CORE])
async def test_redis_dies_and_returns_under_a_watcher(
    backend: str,
    poll: Callable[[float], None],
    layer: Callable[..., None],
    own_redis: RedisServer,
    tmp_path: Path,
) -> None:
    poll(0.3)
    layer(backend, own_redis.url)
    stream_id, later = await make_stream(), await make_stream()
    returned: RedisServer | None = None
    try:
        async with Hub.current().watch(stream_id) as subscription:
            await joined()
            await append(stream_id)
            await take(subscription, 1)
            own_redis.stop()
            for seq in range(1, 6):
                await append(stream_id)
                assert [entry.seq for entry in await take(subscription, 1, timeout=3)] == [seq]
            async with Hub.current().watch(later) as newcomer:
                await append(later)
                await take(newcomer, 1, timeout=3)
                returned = start_redis(tmp_path, own_redis.port)
                await eventually(lambda: listens(returned.url, backend), 30)
                poll(SELDOM)
                await asyncio.sleep(0.5)  # the last short poll
                for watcher in (subscription, newcomer):

                    async def hinted(watcher: Subscription = watcher) -> bool:
                        await append(watcher.stream_id)
                        try:
                            return bool(await take(watcher, 1, timeout=1))
                        except AssertionError:
                            return False

                    await eventually(hinted, 30)
    finally:
        await query(hints.flush, 5)
        if returned is not None:
            returned.stop()


async def test_redis_may_be_absent_at_the_start(
    poll: Callable[[float], None], layer: Callable[..., None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    poll(0.3)
    port = free_port()
    layer(PUBSUB, f"redis://127.0.0.1:{port}/0")
    stream_id = await make_stream()
    server: RedisServer | None = None
    try:
        async with Hub.current().watch(stream_id) as subscription:
            await append(stream_id)
            await take(subscription, 1, timeout=3)
            await asyncio.sleep(1.5)  # time for another try
            server = start_redis(tmp_path, port)
            await eventually(lambda: listens(server.url, PUBSUB), 30)
            await append(stream_id)
            await take(subscription, 1)
        warnings = [record for record in caplog.records if record.levelname == "WARNING"]
        assert [getattr(record, "action", "") for record in warnings].count("link") == 1, "said once"
    finally:
        await query(hints.flush, 5)
        if server is not None:
            server.stop()


@pytest.mark.covers("fault:S12")
async def test_a_membership_lost_to_a_flush_is_renewed(
    poll: Callable[[float], None], layer: Callable[..., None], own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    poll(SELDOM)
    monkeypatch.setattr(link, "REJOIN_SECONDS", 0.3)
    layer(CORE, own_redis.url)
    stream_id = await make_stream()
    async with Hub.current().watch(stream_id) as subscription:
        await joined()
        with redis.Redis.from_url(own_redis.url) as client:
            for seq in range(3):
                client.flushall()
                await append(stream_id)  # announced to nobody, and read when the membership is back
                assert [entry.seq for entry in await take(subscription, 1, timeout=5)] == [seq]
                await eventually(lambda: listens(own_redis.url, CORE), 5)
    await query(hints.flush, 5)


async def test_a_database_that_fails_for_a_while_only_delays(
    poll: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    poll(SELDOM)
    monkeypatch.setattr("agentcore.streams.hub.RETRY_SECONDS", 0.05)
    stream_id = await make_stream()
    await append(stream_id, 3)
    failures = iter([OperationalError("gone"), OperationalError("still gone")])
    real = log.read_batch

    def broken(cursors: Mapping[UUID, int], limit: int = 500) -> dict[UUID, list[Entry]]:
        for failure in failures:
            raise failure
        return real(cursors, limit)

    monkeypatch.setattr(log, "read_batch", broken)
    async with Hub.current().watch(stream_id) as subscription:
        assert [entry.seq for entry in await take(subscription, 3)] == [0, 1, 2]
