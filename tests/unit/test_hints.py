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

from agentcore.streams import hints
from agentcore.streams.hints import Hint, Publisher
from agentcore.streams.log import Append

pytestmark = pytest.mark.once


class Sender:
    """A transport that can be made to wait or to fail."""

    def __init__(self) -> None:
        self.batches: list[list[Hint]] = []
        self.threads: set[threading.Thread] = set()
        self.open = threading.Event()
        self.open.set()
        self.error: Exception | None = None

    @property
    def sent(self) -> list[Hint]:
        """The hints of all batches."""
        return [hint for batch in self.batches for hint in batch]

    async def __call__(self, batch: Sequence[Hint]) -> None:
        self.threads.add(threading.current_thread())
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
    monkeypatch.setattr(hints, "PAUSE_SECONDS", 0.01)
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
    monkeypatch.setattr(hints, "SEND_SECONDS", 0.05)
    monkeypatch.setattr(hints, "PAUSE_SECONDS", 0.01)
    sender.open.clear()
    publish(uuid4())
    assert hints.flush(10)
    assert sender.sent == []


def test_closing_sends_what_waits_and_ends_the_thread_and_the_next_hint_starts_another(sender: Sender) -> None:
    for stream in (first := uuid4(), second := uuid4()):
        publish(stream)
        publisher = hints._publisher
        assert publisher is not None and publisher._thread is not None
        hints.close(10)
        assert not publisher._thread.is_alive()
    assert [hint.stream_id for hint in sender.sent] == [first, second] and len(sender.threads) == 2


def test_closing_does_not_wait_out_the_pause_after_a_failure(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hints, "PAUSE_SECONDS", 600)
    sender.error = ConnectionError("refused")
    publish(uuid4())
    publisher = hints._publisher
    assert publisher is not None and publisher._thread is not None
    hints.close(10)
    assert not publisher._thread.is_alive()


def test_the_number_of_waiting_streams_is_bounded(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hints, "MAX_PENDING", 3)
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

    publisher = Publisher(send)
    assert publisher._thread is None and publisher.flush(0)
