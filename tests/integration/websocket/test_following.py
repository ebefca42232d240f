"""The thread socket shows a thread and its runs, from the client's cursors on."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from agentcore.models import Thread
from agentcore.realtime.database import query
from agentcore.realtime.frames import Name
from agentcore.streams.hub import Hub
from tests.integration.live import eventually
from tests.integration.sockets import (
    Client,
    announce,
    finish,
    make_run,
    make_thread,
    positions,
    run_name,
    say,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.covers("dj:WS-6", "dj:WS-7")
async def test_an_attached_client_gets_the_thread_and_its_live_runs(thread: Thread, session: str) -> None:
    run = await query(make_run, thread)
    ended = await query(make_run, thread)
    await query(say, run, "Hello", "you")
    await query(finish, ended)
    async with Client(thread.pk, session) as client:
        attached = await client.attach()
        assert attached == {"v": 1, "type": "attached", "streams": [f"thread:{thread.pk}", run_name(run)]}
        got = await client.events(run_name(run), 2)
        assert got[1] == {
            "v": 1,
            "stream": run_name(run),
            "seq": 1,
            "event": {"v": 1, "seq": 1, "type": "text.delta", "step": 1, "text": "you"},
        }
        await query(say, run, "there")
        assert positions(await client.events(run_name(run), 1)) == [2]
        streams = {frame.get("stream") for frame in client.frames}
        assert run_name(ended) not in streams, "a run that ended before is history, and nobody asked for it"


@pytest.mark.covers("dj:WS-7", "fault:S1")
async def test_a_run_that_began_and_ended_while_the_client_was_away_is_replayed(thread: Thread, session: str) -> None:
    position = thread.stream.next_seq - 1
    run = await query(make_run, thread)
    await query(say, run, *"abc")
    await query(finish, run)
    async with Client(thread.pk, session) as client:
        await client.attach(**{f"thread:{thread.pk}": position})
        assert positions(await client.events(run_name(run), 4)) == [0, 1, 2, 3]


@pytest.mark.covers("dj:WS-7", "fault:S1")
async def test_a_client_that_comes_back_gets_exactly_what_it_missed(thread: Thread, session: str) -> None:
    run = await query(make_run, thread)
    await query(say, run, *"abcde")
    for cursor in (-1, 0, 3):
        async with Client(thread.pk, session) as client:
            await client.attach(**{run_name(run): cursor, f"thread:{thread.pk}": 0})
            expected = list(range(cursor + 1, 5))
            assert positions(await client.events(run_name(run), len(expected))) == expected
            assert await client.silent()
    async with Client(thread.pk, session) as client:
        await client.attach(**{run_name(run): 4, f"thread:{thread.pk}": 0})
        assert await client.silent()


@pytest.mark.covers("dj:WS-7")
async def test_an_ended_run_is_replayed_when_asked_for_and_then_let_go(thread: Thread, session: str) -> None:
    run = await query(make_run, thread)
    await query(say, run, *"abc")
    await query(finish, run)
    seen = f"thread:{thread.pk}"
    async with Client(thread.pk, session) as client:
        await client.attach(**{run_name(run): 0, seen: 1})
        got = await client.events(run_name(run), 3)
        assert positions(got) == [1, 2, 3] and got[-1]["event"]["type"] == "done"
        await eventually(lambda: Hub.current().watched() == [thread.stream_id])
        assert run_name(run) in (await client.attach(**{run_name(run): 3, seen: 1}))["streams"]
        assert await client.silent()
        assert Hub.current().watched() == [thread.stream_id]


async def test_a_run_that_appears_later_is_followed_to_its_end_once(thread: Thread, session: str) -> None:
    async with Client(thread.pk, session) as client:
        await client.attach()
        run = await query(make_run, thread)
        await query(say, run, *"abc")
        assert positions(await client.events(run_name(run), 3)) == [0, 1, 2]
        await query(finish, run)
        assert (await client.events(run_name(run), 1))[0]["event"]["type"] == "done"
        await eventually(lambda: Hub.current().watched() == [thread.stream_id])
        await query(announce, run)
        while (await client.events(f"thread:{thread.pk}", 1))[0]["seq"] < 2:
            pass
        assert await client.silent()
        assert Hub.current().watched() == [thread.stream_id]


async def test_attaching_again_with_a_cursor_repeats_that_stream_from_there(thread: Thread, session: str) -> None:
    run = await query(make_run, thread)
    await query(say, run, *"abc")
    async with Client(thread.pk, session) as client:
        await client.attach()
        await client.events(run_name(run), 3)
        await client.attach(**{run_name(run): 0})
        assert positions(await client.events(run_name(run), 2)) == [1, 2]
        await query(say, run, "d")
        assert positions(await client.events(run_name(run), 1)) == [3]
        assert await client.silent()


@pytest.mark.covers("fault:S2")
async def test_a_cursor_beyond_the_end_is_answered_with_resync(thread: Thread, session: str) -> None:
    run = await query(make_run, thread)
    await query(say, run, *"abc")
    async with Client(thread.pk, session) as client:
        await client.attach(**{run_name(run): 3, f"thread:{thread.pk}": 0})
        assert await client.frame("resync") == {"v": 1, "type": "resync", "stream": run_name(run), "after": -1}
        assert positions(await client.events(run_name(run), 3)) == [0, 1, 2]


@pytest.mark.covers("threat:T2", "promise:P9")
async def test_streams_of_other_threads_are_not_found(users: tuple[Any, Any], thread: Thread, session: str) -> None:
    other = await query(make_thread, users[0])
    run = await query(make_run, other)
    foreign = await query(make_thread, users[1])
    secret = await query(make_run, foreign)
    await query(say, secret, "secret")
    asked = [run_name(run), run_name(secret), f"run:{uuid4()}", f"thread:{foreign.pk}", f"thread:{other.pk}"]
    async with Client(thread.pk, session) as client:
        await client.send({"type": "attach", "cursors": dict.fromkeys(asked, -1)})
        errors = [await client.frame("error") for _ in asked]
        assert {error["code"] for error in errors} == {"not_found"}
        assert (await client.frame("attached"))["streams"] == [f"thread:{thread.pk}"]
        assert await client.silent()


@pytest.mark.covers("fault:S11")
async def test_an_idle_client_is_pinged(thread: Thread, session: str, every: Callable[..., None]) -> None:
    every(ping=0.1)
    async with Client(thread.pk, session) as client:
        for _ in range(3):
            assert json.loads((await client.socket.receive_output(2))["text"]) == {"v": 1, "type": "ping"}


def test_a_name_reads_as_the_client_writes_it() -> None:
    run_id = uuid4()
    assert str(Name("run", run_id)) == f"run:{run_id}"
