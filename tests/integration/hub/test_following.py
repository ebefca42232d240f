"""Following a stream: quick while hints arrive, one read for many watchers, and nothing kept when nobody watches."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import pytest
from channels_redis.pubsub import RedisPubSubLoopLayer
from django.db import connections

from agentcore.realtime.database import query
from agentcore.streams import hints, log, reader, wire
from agentcore.streams.hub import Hub, channel_layer
from agentcore.streams.log import Entry
from agentcore.streams.subscription import Subscription
from supportdemo.servers import RedisServer
from tests.integration.hub.watching import CORE, HERE, PUBSUB, SELDOM, listens, watch_for_ever
from tests.integration.live import (
    append,
    append_to_all,
    eventually,
    joined,
    make_stream,
    open_connections,
    payload,
    take,
)

pytestmark = pytest.mark.django_db(transaction=True)


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
            await joined()
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
            await joined()
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
        await joined()
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


@pytest.mark.covers("fault:S3", "dj:WS-6")
async def test_what_is_written_before_the_group_is_joined_is_not_missed(
    poll: Callable[[float], None], monkeypatch: pytest.MonkeyPatch, reads: list[Mapping[UUID, int]]
) -> None:
    poll(SELDOM)
    streams = [await make_stream(), await make_stream()]
    may_join = asyncio.Event()
    real = RedisPubSubLoopLayer.group_add

    async def late(self: RedisPubSubLoopLayer, group: str, channel: str) -> None:
        await may_join.wait()
        await real(self, group, channel)

    monkeypatch.setattr(RedisPubSubLoopLayer, "group_add", late)
    async with Hub.current().watch(streams[0]) as first, Hub.current().watch(streams[1]) as second:
        await eventually(lambda: {stream_id for read in reads for stream_id in read} == set(streams))
        await append_to_all(streams)
        assert await query(hints.flush, 5)
        may_join.set()
        assert [entry.seq for entry in await take(first, 1)] == [0]
        assert [entry.seq for entry in await take(second, 1)] == [0]


async def test_a_stream_watched_by_a_hub_that_has_joined_costs_one_read(
    poll: Callable[[float], None], reads: list[Mapping[UUID, int]]
) -> None:
    poll(SELDOM)
    first, second = await make_stream(), await make_stream()
    async with Hub.current().watch(first):
        await joined()
        async with Hub.current().watch(second) as subscription:
            for seq in range(5):
                await eventually(lambda: any(second in read for read in reads))
                await append(second)
                assert [entry.seq for entry in await take(subscription, 1)] == [seq]
    assert len([read for read in reads if second in read]) == 1


@pytest.mark.parametrize("backend", [PUBSUB, CORE, None])
async def test_hints_of_streams_nobody_watches_are_dropped(
    backend: str | None, poll: Callable[[float], None], layer: Callable[..., None], reads: list[Mapping[UUID, int]]
) -> None:
    poll(SELDOM)
    layer(backend)
    hub, watched, others = Hub.current(), await make_stream(), [await make_stream() for _ in range(20)]
    async with hub.watch(watched) as subscription:
        if backend:
            await joined()
            await eventually(lambda: len(reads) >= 2)
        else:
            await eventually(lambda: bool(reads))
        reads.clear()
        await append_to_all(others)
        await append_to_all([*others, watched], 2)
        assert [entry.seq for entry in await take(subscription, 2)] == [0, 1]
        assert reads == [] and hub.watched() == [watched] and hub._dirty == {}


@pytest.mark.parametrize("streams_a_message", [1000, 3], ids=["in one message", "split"])
async def test_a_commit_of_many_streams_reaches_the_watchers_of_each(
    streams_a_message: int, poll: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    poll(SELDOM)
    monkeypatch.setattr(wire, "MESSAGE_STREAMS", streams_a_message)
    streams = [await make_stream() for _ in range(10)]
    messages: list[int] = []
    real = RedisPubSubLoopLayer.group_send

    async def counted(self: RedisPubSubLoopLayer, group: str, message: dict[str, Any]) -> None:
        messages.append(len(message["hints"]))
        await real(self, group, message)

    monkeypatch.setattr(RedisPubSubLoopLayer, "group_send", counted)
    async with contexts(streams) as subscriptions:
        await joined()
        await append_to_all(streams, 3)
        for subscription in subscriptions:
            assert [entry.seq for entry in await take(subscription, 3)] == [0, 1, 2]
    assert messages == ([10] if streams_a_message == 1000 else [3, 3, 3, 1])


async def test_a_hub_leaves_the_group_with_its_last_watcher_and_joins_it_with_the_next(
    poll: Callable[[float], None], layer: Callable[..., None], own_redis: RedisServer
) -> None:
    poll(SELDOM)
    layer(PUBSUB, own_redis.url)
    first, second = await make_stream(), await make_stream()
    hub = Hub.current()
    tasks = [asyncio.create_task(watch_for_ever(stream_id)) for stream_id in (first, second)]
    await eventually(lambda: len(hub.watched()) == 2)
    await joined()
    tasks[0].cancel()
    await eventually(lambda: hub.watched() == [second])
    assert listens(own_redis.url, PUBSUB)
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await eventually(lambda: not listens(own_redis.url, PUBSUB))
    await eventually(lambda: not [task for task in asyncio.all_tasks() if task.get_name() == "agentcore-hub"])
    assert hub._feeds == {} and hub.watched_keys == {} and hub._dirty == {} and hub._work is None
    for seq in range(5):  # at once, while the last link may still be leaving
        async with hub.watch(first, seq - 1) as subscription:
            await joined()
            await append(first)
            assert [entry.seq for entry in await take(subscription, 1)] == [seq]
    await query(hints.flush, 5)


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
        await joined()
        await eventually(lambda: query(lambda: open_connections() <= before), 30)


async def test_what_a_watcher_looks_for_is_found_on_the_connection_that_reads_the_streams(
    poll: Callable[[float], None],
) -> None:
    poll(SELDOM)

    def used() -> tuple[int, Any]:
        connections["default"].ensure_connection()
        return threading.get_ident(), connections["default"].connection

    async with Hub.current().watch(await make_stream()):
        first, *others = await asyncio.gather(*(Hub.current().find(used) for _ in range(3)))
        assert others == [first, first]


class contexts:  # noqa: N801 - reads as the context manager it is
    """Watches many streams at once."""

    def __init__(self, streams: list[UUID]) -> None:
        self._contexts = [Hub.current().watch(stream_id) for stream_id in streams]

    async def __aenter__(self) -> list[Subscription]:
        return [await context.__aenter__() for context in self._contexts]

    async def __aexit__(self, *error: Any) -> None:
        for context in self._contexts:
            await context.__aexit__(None, None, None)


@pytest.mark.covers("fc:E10")
async def test_forged_hints_are_not_shown_and_drop_nothing() -> None:
    """Whoever can write to Redis says that records came: what is shown is what the database has."""
    stream_id = await make_stream()
    async with Hub.current().watch(stream_id) as subscription:
        await joined()
        layer = channel_layer()
        assert layer is not None
        for code in (b"", bytes(wire.CODE_BYTES)):
            forged = (0, 3, (b'{"forged":0}', b'{"forged":1}', b'{"forged":2}'), code)
            await layer.group_send(wire.GROUP, {"type": "stream.hints", "hints": {stream_id.bytes: forged}})
        await append(stream_id, 2)
        entries = await take(subscription, 2)
        assert [(entry.seq, entry.data) for entry in entries] == [(0, payload(0)), (1, payload(1))]
