"""The thread on which a hub reads: a connection that has died under it is met by nobody twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from django.db import OperationalError, connection

from agentcore.models import Run
from agentcore.streams.reader import Reader

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


@pytest.fixture
async def reader() -> AsyncIterator[Reader]:
    made = Reader()
    yield made
    made.close()
    await asyncio.get_running_loop().run_in_executor(None, made._thread.shutdown)


def session() -> int:
    """The server's process for this thread's connection; nothing is false about it."""
    connection.ensure_connection()
    return int(connection.connection.info.backend_pid)


def end(pid: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        return bool(cursor.fetchone()[0])


def runs() -> int:
    return 1 + Run.objects.count()


async def test_all_who_ask_after_the_connection_has_died_are_answered(reader: Reader) -> None:
    pid = await reader.find(session)
    assert await asyncio.to_thread(_ended, pid)
    assert await asyncio.gather(*(reader.find(runs) for _ in range(5))) == [1] * 5
    assert await reader.find(session) != pid


async def test_a_read_after_the_connection_has_died_fails_once(reader: Reader) -> None:
    pid = await reader.find(session)
    assert await asyncio.to_thread(_ended, pid)
    stream = uuid4()
    with pytest.raises(OperationalError):
        await reader.read({stream: -1}, 10)
    assert await reader.read({stream: -1}, 10) == {stream: []}


def _ended(pid: int) -> bool:
    try:
        return end(pid)
    finally:
        connection.close()
