"""Announcing is lossy and late, and never in the way."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Iterator
from uuid import uuid4

import pytest

from agentcore.streams import hints
from agentcore.streams.hints import Hint, Publisher
from agentcore.streams.link import decode, encode, group_name

pytestmark = pytest.mark.once


class Sender:
    """A transport that can be made to wait or to fail."""

    def __init__(self) -> None:
        self.sent: list[Hint] = []
        self.threads: set[int] = set()
        self.open = threading.Event()
        self.open.set()
        self.error: Exception | None = None

    async def __call__(self, hint: Hint) -> None:
        self.threads.add(threading.get_ident())
        await asyncio.get_running_loop().run_in_executor(None, self.open.wait, 10)
        if self.error is not None:
            raise self.error
        self.sent.append(hint)


@pytest.fixture
def sender() -> Iterator[Sender]:
    before = hints._transport
    sender = Sender()
    hints.use_transport(sender)
    yield sender
    sender.open.set()
    sender.error = None
    assert hints.flush(10)
    hints.use_transport(before)


def test_hints_are_sent_from_one_background_thread(sender: Sender) -> None:
    streams = [uuid4() for _ in range(20)]
    for stream in streams:
        hints.publish(stream, 0, [b"{}"])
    assert hints.flush(10)
    assert {hint.stream_id for hint in sender.sent} == set(streams)
    assert len(sender.threads) == 1 and threading.get_ident() not in sender.threads


def test_publishing_does_not_wait_and_what_waits_is_merged(sender: Sender) -> None:
    first, second = uuid4(), uuid4()
    sender.open.clear()
    hints.publish(first, 0, [b"0"])
    while hints._publisher is not None and hints._publisher._pending:
        time.sleep(0.001)
    began = time.monotonic()
    for seq in range(1, 1001):
        hints.publish(second, seq, [b"x"])
    assert time.monotonic() - began < 1
    assert not hints.flush(0.05)
    sender.open.set()
    assert hints.flush(10)
    assert sender.sent == [Hint(first, 0, 1, (b"0",)), Hint(second, 1, 1001, (b"x",) * 1000)]


def test_a_large_append_is_announced_without_its_records(sender: Sender) -> None:
    stream = uuid4()
    hints.publish(stream, 7, [b"x" * 3000, b"y" * 3000])
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
            hints.publish(uuid4(), 0, [b"{}"])
            assert hints.flush(10)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    sender.error = None
    hints.publish(uuid4(), 0, [b"{}"])
    assert hints.flush(10)
    assert len(sender.sent) == 1


def test_a_transport_that_hangs_is_given_up(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hints, "SEND_SECONDS", 0.05)
    monkeypatch.setattr(hints, "PAUSE_SECONDS", 0.01)
    sender.open.clear()
    hints.publish(uuid4(), 0, [b"{}"])
    assert hints.flush(10)
    assert sender.sent == []


def test_the_number_of_waiting_streams_is_bounded(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hints, "MAX_PENDING", 3)
    sender.open.clear()
    hints.publish(uuid4(), 0, [b"{}"])
    while hints._publisher is not None and hints._publisher._pending:
        time.sleep(0.001)
    for _ in range(10):
        hints.publish(uuid4(), 0, [b"{}"])
    sender.open.set()
    assert hints.flush(10)
    assert len(sender.sent) == 4


def test_without_a_transport_nothing_happens(sender: Sender) -> None:
    hints.use_transport(None)
    hints.publish(uuid4(), 0, [b"{}"])
    assert hints.flush(0)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_announces_on_a_thread_of_its_own(sender: Sender) -> None:
    hints.publish(uuid4(), 0, [b"{}"])
    assert hints.flush(10)
    reading, writing = os.pipe()
    with hints._lock:  # as if another thread were just starting to announce
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                sender.sent.clear()
                hints.publish(uuid4(), 3, [b"{}"])
                status = 0 if hints.flush(5) and len(sender.sent) == 1 else 2
            finally:
                os.write(writing, b"%d" % status)
                os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        assert answer.read() == b"0"
    os.waitpid(pid, 0)


def test_a_hint_survives_the_layer_and_rubbish_does_not() -> None:
    hint = Hint(uuid4(), 3, 5, (b"a", b"b"))
    assert decode(encode(hint)) == hint
    for rubbish in ({}, {**encode(hint), "stream": "x"}, {**encode(hint), "first_seq": None}, {"frames": 3}):
        assert decode(rubbish) is None


@pytest.mark.covers("dj:WS-9")
def test_group_names_are_accepted_by_channel_layers() -> None:
    from channels.layers import BaseChannelLayer

    assert BaseChannelLayer().require_valid_group_name(group_name(uuid4()))


def test_a_publisher_starts_its_thread_with_the_first_hint() -> None:
    async def send(hint: Hint) -> None: ...

    publisher = Publisher(send)
    assert publisher._thread is None and publisher.flush(0)
