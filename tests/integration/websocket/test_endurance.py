"""The thread socket costs little, survives what it stands on, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import LazySettings
from django.db.backends.signals import connection_created

from agentcore.models import Thread
from agentcore.realtime.database import THREADS, query
from agentcore.streams.hub import Hub
from supportdemo.servers import free_port
from tests.integration.live import eventually
from tests.integration.sockets import (
    Client,
    finish,
    make_run,
    make_thread,
    positions,
    run_name,
    say,
)
from tests.inventory import DatabaseConnections

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.covers("dj:ASY-7", "fault:S17")
async def test_a_client_that_leaves_leaves_nothing_behind(thread: Thread, session: str) -> None:
    await query(make_run, thread)
    before = len(asyncio.all_tasks())
    for _ in range(5):
        async with Client(thread.pk, session) as client:
            await client.attach()
            await eventually(lambda: len(Hub.current().watched()) == 2)
        assert Hub.current().watched() == []
    await eventually(lambda: len(asyncio.all_tasks()) <= before + 1)  # the channel layer's own receiver stays


async def pings(client: Client, count: int) -> None:
    """Hear so many pings, and nothing else."""
    for _ in range(count):
        message = await client.socket.receive_output(60)
        assert json.loads(message["text"])["type"] == "ping", message


@pytest.mark.covers("dj:ASY-4", "fault:S11")
@pytest.mark.parametrize("backend", ["pubsub.RedisPubSubChannelLayer", "core.RedisChannelLayer"])
async def test_twenty_idle_sockets_live_on_and_hold_no_database_connection(
    users: tuple[Any, Any], session: str, settings: LazySettings, every: Callable[..., None], backend: str
) -> None:
    """For more than twice the five seconds after which a careless Redis timeout would end them all."""
    every(ping=2, recheck=4, poll=3)
    config = {"hosts": [settings.REDIS_URL]}  # the careless configuration, on purpose
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": f"channels_redis.{backend}", "CONFIG": config}}
    threads = [await query(make_thread, users[0]) for _ in range(20)]
    clients = [Client(thread.pk, session) for thread in threads]
    for client in clients:
        await client.__aenter__()
        await client.attach()
    databases, most = DatabaseConnections(), 0

    def count(connection: Any, **kwargs: Any) -> None:
        nonlocal most
        databases.note(connection)
        most = max(most, len(databases.open()))

    connection_created.connect(count)
    try:
        async with asyncio.timeout(200):  # to the sixth ping of each it takes twelve seconds, more on a busy machine
            await asyncio.gather(*(pings(client, 6) for client in clients))
        await eventually(lambda: not databases.open(), 30)
    finally:
        connection_created.disconnect(count)
    # Each has looked after its rights meanwhile. Had one kept what it opened for that, the next would have found it.
    assert 0 < most <= THREADS + 1, "never more at a time than the sockets' threads and the hub's reader have"
    run = await query(make_run, threads[7])
    await query(say, run, "still here")
    assert positions(await clients[7].events(run_name(run), 1)) == [0]
    for client in clients:
        await client.attach()
        await client.__aexit__(None, None, None)


@pytest.mark.covers("dj:WS-10", "promise:P7")
async def test_sockets_work_without_redis(
    thread: Thread, session: str, settings: LazySettings, every: Callable[..., None]
) -> None:
    every(poll=0.2)
    hosts = [{"address": f"redis://127.0.0.1:{free_port()}/0", "socket_timeout": None}]
    layer = settings.CHANNEL_LAYERS["default"]
    settings.CHANNEL_LAYERS = {"default": {**layer, "CONFIG": {"hosts": hosts}}}
    async with Client(thread.pk, session) as client:
        await client.attach()
        run = await query(make_run, thread)
        for seq in range(3):
            await query(say, run, "word")
            assert positions(await client.events(run_name(run), 1)) == [seq]


@pytest.mark.covers("dj:WS-6", "fault:S1", "fault:S4", "fault:S5")
async def test_a_client_that_loses_its_socket_again_and_again_misses_and_repeats_nothing(
    thread: Thread, session: str, settings: LazySettings, every: Callable[..., None]
) -> None:
    every(poll=0.2)
    layer = settings.CHANNEL_LAYERS["default"]
    settings.CHANNEL_LAYERS = {"default": {**layer, "BACKEND": "tests.integration.live.ChaosLayer"}}
    run = await query(make_run, thread)
    total, dice = 2000, random.Random(11)

    async def produce() -> None:
        written = 0
        while written < total:
            count = min(dice.randint(1, 20), total - written)
            await query(say, run, *["w"] * count)
            written += count
        await query(finish, run)

    got: list[int] = []
    async with asyncio.TaskGroup() as group:
        group.create_task(produce())
        while len(got) <= total:
            async with Client(thread.pk, session) as client:
                await client.attach(**({run_name(run): got[-1]} if got else {}))
                for _ in range(dice.randint(20, 200)):
                    got += positions(await client.events(run_name(run), 1, timeout=10))
                    if len(got) > total:
                        break
    assert got == list(range(total + 1))
