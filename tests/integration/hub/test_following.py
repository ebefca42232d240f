"""Following a stream: quick while hints arrive, one read for many watchers, and nothing kept when nobody watches."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import pytest
from django.conf import LazySettings
from django.db import connections

from agentcore.realtime.database import query
from agentcore.streams import hints, link, log, reader
from agentcore.streams.hub import Hub
from agentcore.streams.log import Entry
from tests.integration.hub.watching import CORE, HERE, PUBSUB, SELDOM, listens, watch_for_ever
from tests.integration.live import append, eventually, joined, make_stream, open_connections, payload, take

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
