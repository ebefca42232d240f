"""The log gives out positions without gaps, in the order of commits, and tells nobody before the commit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from django.db import IntegrityError, connection, connections, transaction
from django.utils import timezone

from agentcore.streams import hints, log
from agentcore.streams.exceptions import StreamClosed, StreamMissing
from agentcore.streams.models import Record, Stream
from agentcore.streams.publisher import Hint

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def stream() -> Stream:
    return log.create(f"test:{uuid4()}")


@pytest.fixture
def hinted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[UUID, int, list[bytes]]]:
    """What was announced."""
    sent: list[tuple[UUID, int, list[bytes]]] = []
    monkeypatch.setattr(
        hints,
        "publish",
        lambda written: sent.extend((item.stream_id, item.first_seq, item.payloads) for item in written),
    )
    return sent


def encoder(text: str) -> Callable[[int, datetime], bytes]:
    return lambda seq, now: f"{seq} {text}".encode()


def in_threads(count: int, work: Callable[[int], object]) -> None:
    """Run `work(n)` on as many threads at once, each with connections of its own."""
    barrier = threading.Barrier(count)

    def one(number: int) -> None:
        barrier.wait()
        try:
            work(number)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(count) as pool:
        for future in [pool.submit(one, number) for number in range(count)]:
            future.result()


@pytest.mark.covers("dj:MOD-4")
def test_eight_appenders_at_once_leave_no_gap_and_no_duplicate(stream: Stream) -> None:
    firsts: list[list[int]] = [[] for _ in range(8)]

    def work(number: int) -> None:
        for turn in range(20):
            firsts[number].append(log.append(stream.pk, [encoder(f"{number}/{turn}")] * (1 + turn % 3)))

    in_threads(8, work)
    entries = log.read(stream.pk, limit=10_000)
    assert [entry.seq for entry in entries] == list(range(8 * sum(1 + turn % 3 for turn in range(20))))
    for number in range(8):
        mine = [
            entry.data.split()[1].decode() for entry in entries if entry.data.split()[1].startswith(b"%d/" % number)
        ]
        assert mine == [f"{number}/{turn}" for turn in range(20) for _ in range(1 + turn % 3)]
        assert all(entries[first].data.endswith(b"%d/%d" % (number, turn)) for turn, first in enumerate(firsts[number]))


@pytest.mark.covers("dj:WS-6")
def test_a_reader_never_sees_a_position_before_an_earlier_one(stream: Stream) -> None:
    """Positions become visible in order: whoever reads "after n" while eight write can miss none."""
    done = threading.Event()
    seen: list[int] = []

    def read() -> None:
        try:
            after = -1
            while True:
                last_round = done.is_set()
                page = log.read(stream.pk, after)
                seen.extend(entry.seq for entry in page)
                after = seen[-1] if seen else -1
                if last_round and not page:
                    return
        finally:
            connections.close_all()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        in_threads(8, lambda number: [log.append(stream.pk, [encoder("x")] * 2) for _ in range(10)])
    finally:
        done.set()
        reader.join()
    assert seen == list(range(160))


def test_a_later_append_waits_for_the_commit_of_an_earlier_one(stream: Stream) -> None:
    started, second_done = threading.Event(), threading.Event()

    def second() -> None:
        started.set()
        try:
            log.append(stream.pk, [encoder("second")])
        finally:
            connections.close_all()
        second_done.set()

    with transaction.atomic():
        assert log.append(stream.pk, [encoder("first")]) == 0
        thread = threading.Thread(target=second)
        thread.start()
        started.wait(5)
        assert not second_done.wait(0.3)
    thread.join(10)
    assert [entry.data for entry in log.read(stream.pk)] == [b"0 first", b"1 second"]


def test_a_rollback_leaves_nothing_and_announces_nothing(
    stream: Stream, hinted: list[tuple[UUID, int, list[bytes]]]
) -> None:
    with pytest.raises(RuntimeError, match="changed my mind"), transaction.atomic():
        log.append(stream.pk, [encoder("lost")])
        raise RuntimeError("changed my mind")
    assert log.read(stream.pk) == []
    assert hinted == []
    assert log.append(stream.pk, [encoder("kept")]) == 0
    assert hinted == [(stream.pk, 0, [b"0 kept"])]


def test_a_savepoint_rolled_back_announces_only_the_rest(
    stream: Stream, hinted: list[tuple[UUID, int, list[bytes]]]
) -> None:
    with transaction.atomic():
        log.append(stream.pk, [encoder("kept")])
        with pytest.raises(RuntimeError), transaction.atomic():
            log.append(stream.pk, [encoder("lost")])
            raise RuntimeError
        assert hinted == []
    assert hinted == [(stream.pk, 0, [b"0 kept"])]
    assert [entry.seq for entry in log.read(stream.pk)] == [0]


def test_a_failing_encoder_gives_its_positions_back(stream: Stream) -> None:
    def broken(seq: int, now: datetime) -> bytes:
        raise ValueError("cannot be encoded")

    with pytest.raises(ValueError, match="cannot be encoded"):
        log.append(stream.pk, [encoder("fine"), broken])
    assert log.append(stream.pk, [encoder("next")]) == 0


@pytest.mark.covers("promise:P7")
def test_a_dead_transport_does_not_harm_the_writer(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(batch: Sequence[Hint]) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(hints, "_current", lambda: type("Dead", (), {"publish": staticmethod(explode)})())
    log.append(stream.pk, [encoder("kept")])
    assert len(log.read(stream.pk)) == 1


def test_the_encoder_is_given_the_database_time_to_the_millisecond(stream: Stream) -> None:
    times: list[datetime] = []

    def encode(seq: int, now: datetime) -> bytes:
        times.append(now)
        return b"{}"

    before = datetime.now(UTC) - timedelta(milliseconds=2)
    log.append(stream.pk, [encode, encode])
    assert times[0] == times[1] and times[0].tzinfo is UTC
    assert before <= times[0] <= datetime.now(UTC) + timedelta(milliseconds=2)
    stored = Record.objects.get(stream_id=stream.pk, seq=1)
    assert abs(stored.created_at - times[0]) < timedelta(seconds=1)
    assert stored.append_seq == 0


def test_pages_follow_on_and_batches_answer_for_every_stream() -> None:
    streams = [log.create(f"test:{uuid4()}") for _ in range(130)]
    for number, one in enumerate(streams[:3]):
        log.append(one.pk, [encoder(str(number))] * 25)
    after, pages = -1, []
    while page := log.read(streams[1].pk, after, limit=10):
        pages.append(len(page))
        after = page[-1].seq
    assert pages == [10, 10, 5] and after == 24
    batch = log.read_batch({one.pk: position for position, one in enumerate(streams)}, limit=7)
    assert list(batch) == [one.pk for one in streams]
    assert [[entry.seq for entry in batch[one.pk]] for one in streams[:3]] == [
        [1, 2, 3, 4, 5, 6, 7],
        [2, 3, 4, 5, 6, 7, 8],
        [3, 4, 5, 6, 7, 8, 9],
    ]
    assert {entry.stream_id for entry in batch[streams[2].pk]} == {streams[2].pk}
    assert not any(batch[one.pk] for one in streams[3:])
    assert log.read_batch({}) == {}


def test_a_thousand_records_and_odd_bytes_go_in_and_come_out(stream: Stream) -> None:
    odd = b"\x00\xff%s%% \xf0\x9f\x98\x80'"
    log.append(stream.pk, [lambda seq, now: odd] * 1000)
    assert {entry.data for entry in log.read(stream.pk, limit=2000)} == {odd}
    assert len(log.read(stream.pk, limit=2000)) == 1000


def test_an_external_stream_is_written_at_the_positions_its_writer_holds(
    hinted: list[tuple[UUID, int, list[bytes]]],
) -> None:
    first, second = (log.create(f"run:{uuid4()}", "external") for _ in range(2))
    with transaction.atomic():
        log.write(first.pk, 0, [b"a", b"b"])
        log.write(second.pk, 5, [b"c"])
        log.write(first.pk, 2, [b"d"])
        assert hinted == []
    assert [(entry.seq, entry.data) for entry in log.read(first.pk)] == [(0, b"a"), (1, b"b"), (2, b"d")]
    assert hinted == [(first.pk, 0, [b"a", b"b"]), (second.pk, 5, [b"c"]), (first.pk, 2, [b"d"])]
    with pytest.raises(IntegrityError), transaction.atomic():
        log.write(first.pk, 2, [b"twice"])
    with pytest.raises(StreamMissing, match="allocated by its writer"):
        log.append(first.pk, [encoder("own")])


def test_writing_outside_the_allocating_transaction_is_refused() -> None:
    stream = log.create(f"run:{uuid4()}", "external")
    with pytest.raises(transaction.TransactionManagementError):
        log.write(stream.pk, 0, [b"a"])


def test_a_closed_or_missing_stream_takes_nothing(stream: Stream) -> None:
    log.append(stream.pk, [encoder("last")])
    Stream.objects.filter(pk=stream.pk).update(closed_at=timezone.now())
    with pytest.raises(StreamClosed):
        log.append(stream.pk, [encoder("late")])
    assert len(log.read(stream.pk)) == 1
    with pytest.raises(StreamMissing):
        log.append(uuid4(), [encoder("nowhere")])


@pytest.mark.covers("dj:MOD-4")
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE agentcore_streams_stream SET sequencer = 'nobody'",
        "UPDATE agentcore_streams_stream SET next_seq = -1",
        "UPDATE agentcore_streams_record SET append_seq = 7",
    ],
)
def test_the_database_refuses_impossible_rows(stream: Stream, statement: str) -> None:
    log.append(stream.pk, [encoder("x")])
    with pytest.raises(IntegrityError), connection.cursor() as cursor:
        cursor.execute(statement)


@pytest.mark.covers("dj:MOD-5")
def test_reading_after_a_position_uses_the_primary_key(stream: Stream) -> None:
    if connection.vendor != "postgresql":
        plan = Record.objects.filter(stream_id=stream.pk, seq__gt=3).order_by("seq").explain()
        assert "USING" in plan and "INDEX" in plan and "TEMP B-TREE" not in plan
        return
    with connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")
        plan = Record.objects.filter(stream_id=stream.pk, seq__gt=3).order_by("seq").explain()
        cursor.execute("RESET enable_seqscan")
    assert "agentcore_streams_record_pkey" in plan
