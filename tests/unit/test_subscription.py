"""Whatever hints come, in whatever order, a watcher gets every record once and in order."""

from __future__ import annotations

import random
from uuid import UUID

import pytest

from agentcore.streams.log import Entry
from agentcore.streams.publisher import FRAME_BYTES, Hint
from agentcore.streams.subscription import MAX_BYTES, MAX_ENTRIES, PAGE, Feed, Subscription

pytestmark = pytest.mark.once

STREAM = UUID("018f2a50-7f3e-7c41-9a5e-3f1b2c4d5e6f")


class Rows:
    """A stream's rows, and a reader of pages that counts."""

    def __init__(self, size: int = 10) -> None:
        self.data: list[bytes] = []
        self.size = size
        self.reads = 0

    def grow(self, count: int) -> None:
        self.data += [b"x" * self.size] * count

    def page(self, after: int) -> list[Entry]:
        self.reads += 1
        return [Entry(STREAM, seq, self.data[seq]) for seq in range(after + 1, min(after + 1 + PAGE, len(self.data)))]

    def hint(self, first: int, count: int, frames: bool = True) -> Hint:
        return Hint(STREAM, first, first + count, tuple(self.data[first : first + count]) if frames else ())


def watch(feed: Feed, after: int = -1) -> Subscription:
    subscription = Subscription(STREAM, after, lambda watcher: None)
    feed.watchers.append(subscription)
    return subscription


def settle(feed: Feed, rows: Rows) -> None:
    """Read as the hub does until nobody needs it."""
    for _ in range(1000):
        after = feed.begin_read()
        if after is None:
            return
        feed.take_page(after, rows.page(after))
    raise AssertionError("the reading never ends")


async def drain(subscription: Subscription) -> list[int]:
    return [entry.seq for entry in await subscription.next()] if subscription._buffer else []


@pytest.mark.covers("dj:WS-6", "fault:S5")
@pytest.mark.parametrize("seed", range(25))
async def test_any_order_of_hints_reads_and_commits_gives_each_watcher_every_record_once(seed: int) -> None:
    dice = random.Random(seed)
    rows, feed = Rows(), Feed(STREAM)
    starts = [-1, -1, 0, 7]
    rows.grow(10)
    watchers = [watch(feed, after) for after in starts]
    got: dict[Subscription, list[int]] = {watcher: [] for watcher in watchers}
    late: list[Hint] = []
    reading: tuple[int, list[Entry]] | None = None
    for _ in range(600):
        match dice.randrange(7):
            case 0 | 1:
                first, count = len(rows.data), dice.randint(1, 4)
                rows.grow(count)
                late.append(rows.hint(first, count, frames=dice.random() < 0.7))
            case 2 | 3 if late:
                feed.take_hint(late.pop(dice.randrange(len(late))) if dice.random() < 0.6 else dice.choice(late))
            case 4 if reading is None:
                after = feed.begin_read()
                reading = (after, rows.page(after)) if after is not None else None
            case 5 if reading is not None:
                feed.take_page(*reading)
                reading = None
            case 6:
                watcher = dice.choice(watchers)
                got[watcher] += await drain(watcher)
    if reading is not None:
        feed.take_page(*reading)
    feed.distrust()
    settle(feed, rows)
    for watcher, after in zip(watchers, starts, strict=True):
        got[watcher] += await drain(watcher)
        assert got[watcher] == list(range(after + 1, len(rows.data)))


async def test_a_hint_that_follows_on_needs_no_read() -> None:
    rows, feed = Rows(), Feed(STREAM)
    watcher = watch(feed)
    settle(feed, rows)
    rows.reads = 0
    rows.grow(3)
    feed.take_hint(rows.hint(0, 1))
    feed.take_hint(rows.hint(1, 2))
    assert not feed.dirty and rows.reads == 0
    assert await drain(watcher) == [0, 1, 2]


async def test_a_hint_ahead_of_the_watcher_is_not_delivered_but_read() -> None:
    rows, feed = Rows(), Feed(STREAM)
    watcher = watch(feed)
    settle(feed, rows)
    rows.grow(3)
    feed.take_hint(rows.hint(2, 1))
    assert await drain(watcher) == [] and feed.dirty
    settle(feed, rows)
    assert await drain(watcher) == [0, 1, 2]


async def test_an_old_hint_causes_nothing() -> None:
    rows, feed = Rows(), Feed(STREAM)
    rows.grow(5)
    watcher = watch(feed)
    settle(feed, rows)
    await drain(watcher)
    feed.take_hint(rows.hint(0, 5, frames=False))
    feed.take_hint(rows.hint(2, 2))
    assert not feed.dirty and await drain(watcher) == []


async def test_a_hint_during_a_read_is_not_forgotten() -> None:
    rows, feed = Rows(), Feed(STREAM)
    watcher = watch(feed)
    after = feed.begin_read()
    assert after is not None
    page = rows.page(after)
    rows.grow(1)
    feed.take_hint(rows.hint(0, 1, frames=False))
    feed.take_page(after, page)
    assert feed.dirty
    settle(feed, rows)
    assert await drain(watcher) == [0]


async def test_watchers_at_one_place_share_one_read() -> None:
    rows, feed = Rows(), Feed(STREAM)
    rows.grow(50)
    watchers = [watch(feed, 40 + number % 5) for number in range(100)]
    settle(feed, rows)
    assert rows.reads == 1
    assert [(await drain(watcher))[-1] for watcher in watchers] == [49] * 100


@pytest.mark.covers("fault:S6")
async def test_a_watcher_that_does_not_read_is_fed_no_further_and_misses_nothing() -> None:
    rows, feed = Rows(), Feed(STREAM)
    rows.grow(5000)
    slow, quick = watch(feed), watch(feed, 4990)
    settle(feed, rows)
    assert await drain(quick) == list(range(4991, 5000))
    assert slow.cursor == MAX_ENTRIES - 1
    assert not feed.dirty, "a full watcher must not make the hub read for ever"
    got: list[int] = []
    while len(got) < 5000:
        got += await drain(slow)
        settle(feed, rows)
    assert got == list(range(5000))


@pytest.mark.covers("fault:S6")
async def test_large_records_are_bounded_by_their_bytes() -> None:
    rows, feed = Rows(size=MAX_BYTES // 2), Feed(STREAM)
    rows.grow(5)
    watcher = watch(feed)
    settle(feed, rows)
    assert await drain(watcher) == [0, 1]


async def test_a_long_history_does_not_hold_up_who_is_nearly_there() -> None:
    rows, feed = Rows(), Feed(STREAM)
    rows.grow(900)
    watch(feed)
    after = feed.begin_read()
    assert after == -1
    live = watch(feed, 898)
    feed.take_page(after, rows.page(after))
    settle_reads = rows.reads
    while live.cursor < 899:
        after = feed.begin_read()
        assert after is not None
        feed.take_page(after, rows.page(after))
    assert rows.reads - settle_reads <= 2


def hint(first: int, *frames: bytes, stream: UUID = STREAM) -> Hint:
    return Hint(stream, first, first + len(frames), frames)


def test_unsent_hints_of_a_stream_become_one() -> None:
    assert hint(3, b"a").merge(hint(4, b"b", b"c")) == hint(3, b"a", b"b", b"c")


@pytest.mark.parametrize(
    "first, second",
    [(hint(4, b"b"), hint(3, b"a")), (hint(3, b"a"), hint(6, b"d")), (hint(3, b"a"), Hint(STREAM, 4, 5))],
    ids=["out of order", "with a gap", "without its records"],
)
def test_what_does_not_follow_on_is_merged_into_a_place_to_look(first: Hint, second: Hint) -> None:
    merged = first.merge(second)
    assert merged.frames == ()
    assert (merged.first_seq, merged.next_seq) == (
        min(first.first_seq, second.first_seq), max(first.next_seq, second.next_seq),
    )  # fmt: skip


def test_a_merged_hint_stays_small() -> None:
    half = b"x" * (FRAME_BYTES // 2)
    assert hint(0, half).merge(hint(1, half)).frames == (half, half)
    assert hint(0, half).merge(hint(1, half + b"x")).frames == ()
