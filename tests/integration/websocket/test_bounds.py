"""The thread socket keeps no more for a client than was agreed: a window of bytes, a number of sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import LazySettings

from agentcore.models import Thread
from agentcore.realtime import consumers, frames
from agentcore.realtime.database import query
from agentcore.streams.hub import Hub
from tests.integration.live import eventually
from tests.integration.sockets import Client, finish, make_run, positions, run_name, say, write

pytestmark = pytest.mark.django_db(transaction=True)
WINDOW = 20_000
WORD = "w" * 1000


@pytest.fixture
def window(settings: LazySettings) -> int:
    settings.AGENTCORE = {**settings.AGENTCORE, "SOCKET_WINDOW": WINDOW}
    return WINDOW


class Silent(Client):
    """Reads what it gets and acknowledges nothing."""

    acks = False

    async def all(self) -> list[str]:
        """Everything that is sent until nothing comes for a while."""
        got = []
        while not await self.socket.receive_nothing(timeout=0.5, interval=0.02):
            got.append((await self.socket.receive_output(1)).get("text", ""))
        return got


@pytest.mark.covers("fc:E4")
async def test_no_more_than_the_window_is_sent_without_an_ack(thread: Thread, session: str, window: int) -> None:
    runs = [await query(make_run, thread) for _ in range(3)]
    for run in runs:
        await query(say, run, *[WORD] * 60)
    async with Silent(thread.pk, session) as client:
        await client.send({"type": "attach"})
        got = await client.all()
        size = sum(len(frame.encode()) for frame in got)
        assert window <= size < window + 2 * len(WORD)
        marks = [frame["bytes"] for frame in map(json.loads, got) if frame.get("type") == "mark"]
        assert len(marks) >= 3 and marks == sorted(marks) and marks[-1] <= size
        held = sum(entry._used for entry in _allowances())
        assert held < window + 2 * len(WORD)
        await client.send({"type": "ack", "bytes": marks[-1]})
        more = sum(len(frame.encode()) for frame in await client.all())
        assert window / 2 < more < window + 2 * len(WORD)


def _allowances() -> list[Any]:
    feeds = Hub.current()._feeds.values()
    return list({id(watcher._allowance): watcher._allowance for feed in feeds for watcher in feed.watchers}.values())


@pytest.mark.covers("fc:E4")
async def test_a_client_that_acknowledges_gets_everything_in_order(thread: Thread, session: str, window: int) -> None:
    runs = [await query(make_run, thread) for _ in range(3)]
    for run in runs:
        await query(say, run, *[WORD] * 100)
        await query(finish, run)
    async with Client(thread.pk, session) as client:
        await client.send({"type": "attach", "cursors": {run_name(run): -1 for run in runs}})
        got: dict[str, list[int]] = {run_name(run): [] for run in runs}
        while any(len(seen) < 101 for seen in got.values()):
            frame = await client.receive()
            assert frame.get("type") in (None, "attached"), frame
            if frame.get("stream") in got:
                got[frame["stream"]].append(frame["seq"])
        assert all(seen == list(range(101)) for seen in got.values())


@pytest.mark.covers("fc:E4")
async def test_a_client_that_acknowledges_nothing_is_told_so_and_closed(
    thread: Thread, session: str, window: int, every: Callable[..., None]
) -> None:
    every(ack=0.3)
    run = await query(make_run, thread)
    await query(say, run, *[WORD] * 60)
    async with Silent(thread.pk, session) as client:
        await client.send({"type": "attach"})
        assert (await client.frame("error"))["code"] == "slow"
        assert await client.closed() == frames.CLOSE_SLOW
        await eventually(lambda: Hub.current().watched() == [])


@pytest.mark.covers("fc:E4")
async def test_a_mark_that_stays_without_an_ack_closes_though_nothing_waits(
    thread: Thread, session: str, window: int, every: Callable[..., None]
) -> None:
    every(ack=0.3)
    run = await query(make_run, thread)
    async with Silent(thread.pk, session) as client:
        await client.send({"type": "attach"})
        assert '"mark"' not in "".join(await client.all())
        assert await client.silent(0.5), "nothing was asked of it yet"
        await query(say, run, *[WORD] * 7)
        assert (await client.frame("error"))["code"] == "slow"
        assert await client.closed() == frames.CLOSE_SLOW


@pytest.mark.covers("fc:E4")
async def test_an_ack_of_what_is_no_mark_is_a_bad_frame(thread: Thread, session: str) -> None:
    async with Client(thread.pk, session) as client:
        for _ in range(consumers.BAD_FRAMES):
            await client.send({"type": "ack", "bytes": 2**40})
            assert (await client.frame("error"))["code"] == "bad_frame"
        assert await client.closed() == frames.CLOSE_BAD_FRAMES


@pytest.mark.covers("fc:E4")
async def test_a_user_has_so_many_sockets_and_then_no_more(
    thread: Thread, session: str, settings: LazySettings
) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "SOCKETS_PER_USER": 2}
    async with Client(thread.pk, session) as first, Client(thread.pk, session):
        async with Client(thread.pk, session) as third:
            assert (await third.frame("error"))["code"] == "too_many_sockets"
            assert await third.closed() == frames.CLOSE_FLOOD
        await first.attach()
    async with Client(thread.pk, session) as again, Client(thread.pk, session) as other:
        await again.attach()
        await other.attach()


@pytest.mark.covers("fc:E2")
async def test_an_event_of_megabytes_arrives_in_frames_of_a_stated_size(thread: Thread, session: str) -> None:
    run = await query(make_run, thread)
    texts = ["é" * 1_500_000, "short", '"' * 1_500_000]
    for text in texts:
        await query(write, run, {"type": "text.delta", "text": text})
    async with Client(thread.pk, session) as client:
        await client.attach()
        got = await client.events(run_name(run), 3, timeout=30)
        assert [frame["event"]["text"] for frame in got] == texts and positions(got) == [0, 1, 2]
    sizes = [len(json.dumps(frame, ensure_ascii=False).encode()) for frame in client.frames]
    assert max(sizes) <= 1.1 * frames.MAX_SENT_BYTES


@pytest.mark.covers("fc:E2")
@pytest.mark.parametrize("broken", ["survey", "may_see"])
async def test_any_exception_closes_with_a_code_that_every_server_sends(
    thread: Thread, session: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    async with Client(thread.pk, session) as client:
        await client.attach()

        def fail(*args: Any) -> Any:
            raise RuntimeError("a defect")

        monkeypatch.setattr(consumers, broken, fail)
        await client.send({"type": "attach"} if broken == "survey" else "{")
        assert (await client.frame("error"))["code"] == "failed"
        assert await client.closed() == frames.CLOSE_FAILED
    assert "a socket's message cannot be handled" in caplog.text
    if broken == "may_see":
        assert await Client(thread.pk, session).refusal() == frames.CLOSE_FAILED
    codes = [code for name, code in vars(frames).items() if name.startswith("CLOSE_")]
    assert codes and all(4000 <= code <= 4999 for code in codes), "autobahn sends 1000 and 3000 to 4999, and no other"


@pytest.mark.covers("fc:E2")
async def test_a_socket_that_cannot_be_checked_again_is_closed_too(
    thread: Thread,
    session: str,
    every: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    every(recheck=0.2)

    def fail(*args: Any) -> Any:
        raise RuntimeError("a defect")

    async with Client(thread.pk, session) as client:
        await client.attach()
        monkeypatch.setattr(consumers, "may_see", fail)
        assert (await client.frame("error"))["code"] == "failed"
        assert await client.closed() == frames.CLOSE_FAILED
    assert "a socket cannot be checked" in caplog.text


@pytest.mark.covers("fc:E4")
async def test_what_a_stream_holds_back_does_not_starve_the_others(thread: Thread, session: str, window: int) -> None:
    """A run whose history fills the socket's allowance, and one that speaks meanwhile."""
    old, new = await query(make_run, thread), await query(make_run, thread)
    await query(say, old, *[WORD] * 200)
    async with Client(thread.pk, session) as client:
        await client.send({"type": "attach"})
        await asyncio.sleep(0.2)
        await query(say, new, "now")
        names = {run_name(old): 0, run_name(new): 0}
        while names[run_name(old)] < 200 or names[run_name(new)] < 1:
            frame = await client.receive()
            assert frame.get("type") in (None, "attached"), frame
            names[frame.get("stream", "")] = names.get(frame.get("stream", ""), 0) + 1
