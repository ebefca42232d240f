"""Announcing is lossy and late, and never in the way."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from uuid import UUID, uuid4

import pytest

from agentcore.streams import hints, publisher
from agentcore.streams.log import Append
from agentcore.streams.publisher import Hint, ThreadPublisher

pytestmark = pytest.mark.once


class Sender:
    """A transport that can be made to wait or to fail."""

    def __init__(self) -> None:
        self.batches: list[list[Hint]] = []
        self.threads: set[threading.Thread] = set()
        self.begun = threading.Event()
        self.open = threading.Event()
        self.open.set()
        self.error: Exception | None = None

    @property
    def sent(self) -> list[Hint]:
        """The hints of all batches."""
        return [hint for batch in self.batches for hint in batch]

    async def __call__(self, batch: Sequence[Hint]) -> None:
        self.threads.add(threading.current_thread())
        self.begun.set()
        await asyncio.get_running_loop().run_in_executor(None, self.open.wait, 10)
        if self.error is not None:
            raise self.error
        self.batches.append(list(batch))


@pytest.fixture
def sender() -> Iterator[Sender]:
    before = hints._transport
    sender = Sender()
    hints.use_transport(sender)
    yield sender
    sender.open.set()
    sender.error = None
    hints.close(10)
    hints.use_transport(before)


def publish(stream_id: UUID, first_seq: int = 0, payloads: Sequence[bytes] = (b"{}",)) -> None:
    """Announce what one stream was given."""
    hints.publish([Append(stream_id, first_seq, payloads)])


def taken_up() -> None:
    """Wait until what was published is being sent."""
    while hints._publisher is not None and hints._publisher._pending:
        time.sleep(0.001)


def its_thread() -> threading.Thread:
    """The thread that sends."""
    found = hints._publisher
    assert isinstance(found, ThreadPublisher) and found._thread is not None
    return found._thread


def test_hints_are_sent_from_one_background_thread(sender: Sender) -> None:
    streams = [uuid4() for _ in range(20)]
    for stream in streams:
        publish(stream)
    assert hints.flush(10)
    assert {hint.stream_id for hint in sender.sent} == set(streams)
    assert len(sender.threads) == 1 and threading.current_thread() not in sender.threads


def test_publishing_does_not_wait_and_what_waits_is_merged(sender: Sender) -> None:
    first, second = uuid4(), uuid4()
    sender.open.clear()
    publish(first, 0, [b"0"])
    taken_up()
    began = time.monotonic()
    for seq in range(1, 1001):
        publish(second, seq, [b"x"])
    assert time.monotonic() - began < 1
    assert not hints.flush(0.05)
    sender.open.set()
    assert hints.flush(10)
    assert sender.batches == [[Hint(first, 0, 1, (b"0",))], [Hint(second, 1, 1001, (b"x",) * 1000)]]


def test_the_streams_of_a_commit_are_announced_in_one_batch(sender: Sender) -> None:
    streams = [uuid4() for _ in range(100)]
    hints.publish([Append(stream, 4, [b"a", b"b"]) for stream in streams])
    assert hints.flush(10)
    assert sender.batches == [[Hint(stream, 4, 6, (b"a", b"b")) for stream in streams]]


def test_a_hint_goes_at_once_and_what_comes_meanwhile_gathers(sender: Sender) -> None:
    streams = [uuid4() for _ in range(10)]
    sender.open.clear()
    publish(streams[0])
    taken_up()  # though nothing follows
    for stream in streams[1:]:
        publish(stream)
    sender.open.set()
    assert hints.flush(10)
    assert [[hint.stream_id for hint in batch] for batch in sender.batches] == [streams[:1], streams[1:]]


def test_a_large_append_is_announced_without_its_records(sender: Sender) -> None:
    stream = uuid4()
    publish(stream, 7, [b"x" * 3000, b"y" * 3000])
    assert hints.flush(10)
    assert sender.sent == [Hint(stream, 7, 9)]


@pytest.mark.covers("dj:WS-10")
def test_a_failing_transport_costs_one_warning_and_the_hint(
    sender: Sender, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "PAUSE_SECONDS", 0.01)
    sender.error = ConnectionError("refused")
    with caplog.at_level(logging.WARNING, "agentcore.streams"):
        for _ in range(5):
            publish(uuid4())
            assert hints.flush(10)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    sender.error = None
    publish(uuid4())
    assert hints.flush(10)
    assert len(sender.sent) == 1


def test_a_transport_that_hangs_is_given_up(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "SEND_SECONDS", 0.05)
    monkeypatch.setattr(publisher, "PAUSE_SECONDS", 0.01)
    sender.open.clear()
    publish(uuid4())
    assert hints.flush(10)
    assert sender.sent == []


def test_closing_sends_what_waits_and_ends_the_thread_and_the_next_hint_starts_another(sender: Sender) -> None:
    for stream in (first := uuid4(), second := uuid4()):
        publish(stream)
        thread = its_thread()
        hints.close(10)
        assert not thread.is_alive()
    assert [hint.stream_id for hint in sender.sent] == [first, second] and len(sender.threads) == 2


def test_closing_does_not_wait_out_the_pause_after_a_failure(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "PAUSE_SECONDS", 600)
    sender.error = ConnectionError("refused")
    publish(uuid4())
    thread = its_thread()
    hints.close(10)
    assert not thread.is_alive()


def test_the_number_of_waiting_streams_is_bounded(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "MAX_PENDING", 3)
    sender.open.clear()
    publish(uuid4())
    taken_up()
    known = uuid4()
    publish(known)
    hints.publish([Append(uuid4(), 0, [b"{}"]) for _ in range(10)])
    publish(known, 1)
    sender.open.set()
    assert hints.flush(10)
    assert len(sender.sent) == 4
    assert Hint(known, 0, 2, (b"{}", b"{}")) in sender.sent, "a stream that waits already takes no more room"


def test_without_a_transport_nothing_happens(sender: Sender) -> None:
    hints.use_transport(None)
    publish(uuid4())
    assert hints.flush(0)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_announces_on_a_thread_of_its_own(sender: Sender) -> None:
    publish(uuid4())
    assert hints.flush(10)
    reading, writing = os.pipe()
    with hints._lock:  # as if another thread were just starting to announce
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                sender.batches.clear()
                publish(uuid4(), 3)
                status = 0 if hints.flush(5) and len(sender.sent) == 1 else 2
            finally:
                os.write(writing, b"%d" % status)
                os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        assert answer.read() == b"0"
    os.waitpid(pid, 0)


def test_a_publisher_starts_its_thread_with_the_first_hint() -> None:
    async def send(batch: Sequence[Hint]) -> None: ...

    idle = ThreadPublisher(send)
    assert idle._thread is None and idle.flush(0)


async def told(seconds: float = 10) -> bool:
    """Wait, as another thread, until everything is sent or dropped."""
    return await asyncio.to_thread(hints.flush, seconds)


async def test_on_a_loop_hints_of_every_thread_are_sent_by_the_loop(sender: Sender) -> None:
    here, there = uuid4(), uuid4()
    async with hints.sent_from_this_loop():
        publish(here)
        await asyncio.to_thread(publish, there)
        assert await told()
    assert {hint.stream_id for hint in sender.sent} == {here, there}
    assert sender.threads == {threading.current_thread()}


async def test_on_a_loop_what_comes_while_hints_are_sent_is_merged_and_goes_next(sender: Sender) -> None:
    first, second = uuid4(), uuid4()
    async with hints.sent_from_this_loop():
        sender.open.clear()
        publish(first, 0, [b"0"])
        await asyncio.to_thread(sender.begun.wait, 10)
        for seq in range(1, 101):
            publish(second, seq, [b"x"])
        assert not await told(0.05)
        sender.open.set()
        assert await told()
    assert sender.batches == [[Hint(first, 0, 1, (b"0",))], [Hint(second, 1, 101, (b"x",) * 100)]]


async def test_what_waits_when_the_loop_is_left_is_sent_and_later_hints_by_a_thread(sender: Sender) -> None:
    waiting, later = uuid4(), uuid4()
    async with hints.sent_from_this_loop():
        publish(waiting)
    publish(later)
    assert await told()
    assert [hint.stream_id for hint in sender.sent] == [waiting, later]
    assert threading.current_thread() in sender.threads and len(sender.threads) == 2


async def test_what_a_thread_had_still_to_send_is_sent_when_the_loop_takes_over(sender: Sender) -> None:
    sender.open.clear()
    publish(before := uuid4())
    taken_up()
    former = hints._publisher
    assert former is not None
    async with hints.sent_from_this_loop():
        publish(after := uuid4())
        sender.open.set()
        assert await told() and await asyncio.to_thread(former.flush, 10)
    assert {hint.stream_id for hint in sender.sent} == {before, after}


@pytest.mark.covers("dj:WS-10")
async def test_on_a_loop_a_transport_that_fails_or_hangs_costs_the_hint_and_nothing_else(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "SEND_SECONDS", 0.05)
    monkeypatch.setattr(publisher, "PAUSE_SECONDS", 0.01)
    async with hints.sent_from_this_loop():
        sender.error = ConnectionError("refused")
        publish(uuid4())
        assert await told() and sender.sent == []
        sender.error = None
        sender.open.clear()
        publish(uuid4())
        assert await told() and sender.sent == []
        sender.open.set()
        publish(kept := uuid4())
        assert await told()
    assert [hint.stream_id for hint in sender.sent] == [kept]


async def test_a_loop_without_a_transport_sends_nothing(sender: Sender) -> None:
    hints.use_transport(None)
    async with hints.sent_from_this_loop():
        publish(uuid4())
        assert await told(0)
