"""Following a stream: quick while hints arrive, complete when they do not, and no burden when nothing happens."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import redis
from django.conf import LazySettings
from django.db import OperationalError, connections

from agentcore.realtime.database import query
from agentcore.streams import hints, link, log, reader
from agentcore.streams.hub import Hub
from agentcore.streams.link import group_name
from agentcore.streams.log import Entry
from supportdemo.servers import RedisServer, free_port, start_redis
from tests.integration.live import append, eventually, joined, make_stream, open_connections, payload, take

pytestmark = pytest.mark.django_db(transaction=True)

HERE = "tests.integration.live"
SELDOM = 60.0
"""A poll that never comes: what arrives was brought by a hint."""


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


PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"
CORE = "channels_redis.core.RedisChannelLayer"


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


@pytest.mark.parametrize("backend", [PUBSUB, CORE, "channels.layers.InMemoryChannelLayer", None])
async def test_a_commit_reaches_the_watcher_by_its_hint(
    backend: str | None, poll: Callable[[float], None], layer: Callable[..., None]
) -> None:
    poll(SELDOM)
    layer(backend)
    stream_id = await make_stream()
    await append(stream_id, 3)
    async with Hub.current().watch(stream_id, after=0) as subscription:
        assert [entry.seq for entry in await take(subscription, 2)] == [1, 2]
        if backend in (PUBSUB, CORE):
            await joined(stream_id)
        for seq in range(3, 10):
            await append(stream_id)
            assert await take(subscription, 1) == [Entry(stream_id, seq, payload(seq))]
        await append(stream_id, 300)  # too large for a hint
        assert [entry.seq for entry in await take(subscription, 300)] == list(range(10, 310))


@pytest.mark.parametrize("backend", [PUBSUB, "channels.layers.InMemoryChannelLayer", None])
async def test_a_commit_on_another_thread_wakes_a_sleeping_loop(
    backend: str | None, poll: Callable[[float], None], layer: Callable[..., None]
) -> None:
    poll(SELDOM)
    layer(backend)
    stream_id = await make_stream()

    def work() -> None:
        log.append(stream_id, [payload])
        connections.close_all()

    async with Hub.current().watch(stream_id) as subscription:
        if backend == PUBSUB:
            await joined(stream_id)
        writer = threading.Timer(0.3, work)
        writer.start()
        await take(subscription, 1, timeout=3)
        writer.join()


async def test_hints_with_their_records_spare_the_database(
    poll: Callable[[float], None], reads: list[Mapping[UUID, int]]
) -> None:
    poll(SELDOM)
    stream_id = await make_stream()
    async with Hub.current().watch(stream_id) as subscription:
        await joined(stream_id)
        await append(stream_id)
        await take(subscription, 1)
        await eventually(lambda: len(reads) >= 2)
        reads.clear()
        for _ in range(10):
            await append(stream_id, 2)
            await take(subscription, 2)
        assert reads == []


async def test_many_watchers_of_a_stream_cost_one_read(
    poll: Callable[[float], None], layer: Callable[..., None], reads: list[Mapping[UUID, int]]
) -> None:
    poll(SELDOM)
    layer(f"{HERE}.DeafLayer")
    stream_id = await make_stream()
    await append(stream_id, 20)
    hub = Hub.current()
    got: dict[int, list[int]] = {}

    async def watch(after: int) -> None:
        async with hub.watch(stream_id, after) as subscription:
            got[after] = [entry.seq for entry in await take(subscription, 19 - after)]
            everybody.release()
            await leave.wait()

    everybody, leave = asyncio.Semaphore(0), asyncio.Event()
    tasks = [asyncio.create_task(watch(after)) for after in range(-1, 19)]
    for _ in tasks:
        await everybody.acquire()
    assert got == {after: list(range(after + 1, 20)) for after in range(-1, 19)}
    assert len([read for read in reads if stream_id in read]) <= 3
    leave.set()
    await asyncio.gather(*tasks)


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


@pytest.mark.covers("fault:S3", "dj:WS-6")
async def test_what_is_written_before_the_group_is_joined_is_not_missed(
    poll: Callable[[float], None], monkeypatch: pytest.MonkeyPatch, reads: list[Mapping[UUID, int]]
) -> None:
    poll(SELDOM)
    stream_id = await make_stream()
    may_join = asyncio.Event()
    real = link.Link._reconcile

    async def late(self: link.Link, channel: str) -> None:
        await may_join.wait()
        await real(self, channel)

    monkeypatch.setattr(link.Link, "_reconcile", late)
    async with Hub.current().watch(stream_id) as subscription:
        await eventually(lambda: bool(reads))
        await append(stream_id)
        assert await query(hints.flush, 5)
        may_join.set()
        assert [entry.seq for entry in await take(subscription, 1)] == [0]


@pytest.mark.covers("dj:WS-6", "fault:S1", "fault:S4", "fault:S5")
@pytest.mark.parametrize("backend", [f"{HERE}.ChaosLayer", CORE], ids=["drops, doubles and shuffles", "capacity 5"])
async def test_ten_thousand_events_over_a_bad_layer_and_many_disconnects_arrive_exactly_once(
    backend: str, poll: Callable[[float], None], layer: Callable[..., None]
) -> None:
    poll(0.2)
    layer(backend, **({"capacity": 5} if backend == CORE else {}))
    total = 10_000
    stream_id = await make_stream()
    hub = Hub.current()

    async def write() -> None:
        dice, written = random.Random(5), 0
        while written < total:
            count = min(dice.randint(1, 30), total - written)
            await append(stream_id, count)
            written += count

    async def follow(seed: int) -> list[int]:
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
        followers = [group.create_task(follow(seed)) for seed in range(3)]
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
    caplog: pytest.LogCaptureFixture,
) -> None:
    poll(0.3)
    layer(backend, own_redis.url)
    stream_id, later = await make_stream(), await make_stream()
    returned: RedisServer | None = None
    try:
        async with Hub.current().watch(stream_id) as subscription:
            await joined(stream_id)
            await append(stream_id)
            await take(subscription, 1)
            own_redis.stop()
            for seq in range(1, 6):
                await append(stream_id)
                assert [entry.seq for entry in await take(subscription, 1, timeout=3)] == [seq]
            newcomer = asyncio.create_task(watch_for_ever(later))
            await eventually(lambda: "cannot join" in caplog.text or "no channel layer" in caplog.text, 30)
            returned = start_redis(tmp_path, own_redis.port)
            await eventually(lambda: listens(returned.url, stream_id, backend), 20)
            await eventually(lambda: listens(returned.url, later, backend), 20)
            newcomer.cancel()
            poll(SELDOM)
            await append(stream_id)
            await take(subscription, 1, timeout=20)  # the last short poll may still bring it
            await asyncio.sleep(0.5)
            seen = 7

            async def hinted() -> bool:
                nonlocal seen
                await append(stream_id)
                try:
                    seen += len(await take(subscription, 1, timeout=1))
                except AssertionError:
                    return False
                return True

            await eventually(hinted, 30)
    finally:
        await query(hints.flush, 5)
        if returned is not None:
            returned.stop()


async def watch_for_ever(stream_id: UUID) -> None:
    """Watch a stream until cancelled."""
    async with Hub.current().watch(stream_id) as subscription:
        while True:
            await subscription.next()


def listens(url: str, stream_id: UUID, backend: str) -> bool:
    """Whether Redis knows of somebody who hears of the stream."""
    with redis.Redis.from_url(url) as client:
        if backend == CORE:
            return bool(client.zcard(f"asgi:group:{group_name(stream_id)}"))
        return bool(dict(client.pubsub_numsub(f"asgi__group__{group_name(stream_id)}")).popitem()[1])


async def test_redis_may_be_absent_at_the_start(
    poll: Callable[[float], None], layer: Callable[..., None], tmp_path: Path
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
            server = start_redis(tmp_path, port)
            await eventually(lambda: listens(server.url, stream_id, PUBSUB), 30)
            await append(stream_id)
            await take(subscription, 1)
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
    async with Hub.current().watch(stream_id):
        await joined(stream_id)
        with redis.Redis.from_url(own_redis.url) as client:
            client.flushall()
        await eventually(lambda: listens(own_redis.url, stream_id, CORE), 5)
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


async def test_a_cancelled_watcher_leaves_nothing_behind(settings: LazySettings) -> None:
    first, second = await make_stream(), await make_stream()
    hub = Hub.current()

    tasks = [asyncio.create_task(watch_for_ever(stream_id)) for stream_id in (first, second)]
    await eventually(lambda: len(hub.watched()) == 2)
    await joined(first, second)
    tasks[0].cancel()
    await eventually(lambda: not listens(settings.REDIS_URL, first, PUBSUB))
    assert hub.watched() == [second] and listens(settings.REDIS_URL, second, PUBSUB)
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await eventually(lambda: not listens(settings.REDIS_URL, second, PUBSUB))
    await eventually(lambda: not [task for task in asyncio.all_tasks() if task.get_name() == "agentcore-hub"])
    assert hub._feeds == {} and hub._dirty == {} and hub._work is None


@pytest.mark.covers("dj:ASY-4")
async def test_a_hub_with_nothing_to_do_holds_no_database_connection(
    poll: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    poll(SELDOM)
    monkeypatch.setattr(reader, "LINGER_SECONDS", 0.2)
    streams = [await make_stream() for _ in range(20)]
    before = await query(open_connections)
    async with asyncio.TaskGroup() as group, contexts(streams):
        group.create_task(append(streams[0]))
        await joined(*streams)
        await eventually(lambda: query(lambda: open_connections() == before), 5)


class contexts:  # noqa: N801 - reads as the context manager it is
    """Watches many streams at once."""

    def __init__(self, streams: list[UUID]) -> None:
        self._contexts = [Hub.current().watch(stream_id) for stream_id in streams]

    async def __aenter__(self) -> None:
        for context in self._contexts:
            await context.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        for context in self._contexts:
            await context.__aexit__(None, None, None)
