"""A batch of hints fits the channel layer, whatever its size, and costs a hub only what it watches."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import msgpack
import pytest
from django.conf import LazySettings

from agentcore.streams import wire
from agentcore.streams.publisher import FRAME_BYTES, Hint
from agentcore.streams.wire import GROUP, MESSAGE_BYTES, MESSAGE_STREAMS, decode, encode, key_of

pytestmark = pytest.mark.once

STREAM = UUID("018f2a50-7f3e-7c41-9a5e-3f1b2c4d5e6f")
ENVELOPE_BYTES = 200
"""What a layer and the message's own names add."""


def carried(message: dict[str, Any]) -> dict[str, Any]:
    """The message as the Redis layers hand it to a hub."""
    found: dict[str, Any] = msgpack.unpackb(msgpack.packb(message))
    return found


def hear(batch: list[Hint], watched: list[UUID] | None = None) -> list[Hint]:
    """What a hub makes of a batch that it watches, or watches some of."""
    keys = {key_of(stream_id): stream_id for stream_id in (watched or [hint.stream_id for hint in batch])}
    return [hint for message in encode(batch) for hint in decode(carried(message), keys)]


def by_stream(hints: list[Hint]) -> list[Hint]:
    return sorted(hints, key=lambda hint: hint.stream_id)


def test_a_batch_is_one_message_and_arrives_as_it_was() -> None:
    batch = [Hint(uuid4(), 3, 5, (b"a", b"b")), Hint(uuid4(), 0, 900), Hint(uuid4(), 2**40, 2**40 + 1, (b"",))]
    assert len(list(encode(batch))) == 1
    assert by_stream(hear(batch)) == by_stream(batch)


def test_streams_nobody_watches_are_dropped_without_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = [Hint(uuid4(), 0, 1, (b"x",)) for _ in range(50)]
    wanted, other = batch[17], uuid4()
    built: list[UUID] = []
    real = wire._hint

    def counted(stream_id: UUID, *entry: Any) -> Hint:
        built.append(stream_id)
        return real(stream_id, *entry)

    monkeypatch.setattr(wire, "_hint", counted)
    assert hear(batch, [wanted.stream_id, other]) == [wanted]
    assert hear(batch, [other]) == []
    assert built == [wanted.stream_id]


@pytest.mark.parametrize("frame", [b"", b"x", b"x" * 300, b"x" * FRAME_BYTES], ids=len)
@pytest.mark.parametrize("streams", [1, 40, 1_000, 10_000])
def test_a_huge_batch_is_split_into_messages_of_bounded_size(streams: int, frame: bytes) -> None:
    frames = (frame,) * (FRAME_BYTES // len(frame) if frame else 10)
    batch = [Hint(uuid4(), 2**62, 2**62 + len(frames), frames) for _ in range(streams)]
    messages = list(encode(batch))
    assert max(len(msgpack.packb(message)) for message in messages) <= MESSAGE_BYTES + ENVELOPE_BYTES
    assert len(messages) == -(-streams // MESSAGE_STREAMS)
    heard = {hint.stream_id: hint for hint in hear(batch)}
    assert set(heard) == {hint.stream_id for hint in batch}
    assert all((hint.first_seq, hint.next_seq) == (2**62, 2**62 + len(frames)) for hint in heard.values())
    assert all(hint.frames in (frames, ()) for hint in heard.values())
    assert heard[batch[0].stream_id].frames == frames, "there is room for some"


def test_a_small_batch_keeps_its_frames() -> None:
    batch = [Hint(uuid4(), 0, 1, (b"x" * FRAME_BYTES,)) for _ in range(30)]
    assert by_stream(hear(batch)) == by_stream(batch)


def forge(message: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """The message with parts of its one hint replaced, by somebody who can write to the layer and no more."""
    [(key, entry)] = message["hints"].items()
    names = ("first_seq", "next_seq", "frames", "code")
    values = {**dict(zip(names, entry, strict=True)), **changed}
    return {**message, "hints": {key: tuple(values[name] for name in names)}}


@pytest.mark.covers("fc:E10")
@pytest.mark.parametrize(
    "changed",
    [
        {"frames": (b"forged", b"b")},
        {"frames": (b"ab", b"")},
        {"frames": (b"", b"ab")},
        {"frames": (b"a",)},
        {"first_seq": 4},
        {"next_seq": 6},
        {"first_seq": 2, "next_seq": 4},
        {"code": b""},
        {"code": bytes(16)},
    ],
    ids=str,
)
def test_frames_without_the_sites_own_code_are_not_shown(changed: dict[str, Any]) -> None:
    hint = Hint(STREAM, 3, 5, (b"a", b"b"))
    [message] = encode([hint])
    watched = {key_of(STREAM): STREAM}
    assert decode(carried(forge(message)), watched) == [hint]
    [heard] = decode(carried(forge(message, **changed)), watched)
    assert heard.frames == ()


@pytest.mark.covers("fc:E10")
def test_frames_of_another_stream_or_of_another_site_are_not_shown(settings: LazySettings) -> None:
    hint, other = Hint(STREAM, 0, 1, (b"a",)), uuid4()
    [message] = encode([hint])
    moved = {**message, "hints": {key_of(other): message["hints"][key_of(STREAM)]}}
    assert decode(carried(moved), {key_of(other): other}) == [Hint(other, 0, 1)]
    settings.SECRET_KEY = "another site's"
    assert decode(carried(message), {key_of(STREAM): STREAM}) == [Hint(STREAM, 0, 1)]


@pytest.mark.parametrize(
    "rubbish",
    [
        {},
        {"hints": None},
        {"hints": [1, 2]},
        {"hints": {"x": 1}},
        *({"hints": {STREAM.bytes: entry}} for entry in (None, 7, [], [1, 2], ["x", 2, []], [1, None, []], [1, 2, 3])),
        {"hints": {STREAM.bytes: [1, 2, [10**12]]}},
        {"hints": {STREAM.bytes: [1, 2, ["text"]]}},
        {"hints": {STREAM.bytes: [1, 2, [b"x"]]}},
        {"hints": {STREAM.bytes: [1, 2, [b"x"], "code"]}},
        {"hints": {STREAM.bytes: [1, 2, ["text"], b"code"]}},
        {"hints": {STREAM.bytes: ["1", 2, [b"x"], b"code"]}},
    ],
    ids=str,
)
def test_rubbish_is_dropped(rubbish: dict[str, Any]) -> None:
    assert decode(rubbish, {key_of(STREAM): STREAM}) == []


@pytest.mark.covers("dj:WS-9")
def test_the_name_of_the_group_is_accepted_by_channel_layers() -> None:
    from channels.layers import BaseChannelLayer

    assert BaseChannelLayer().require_valid_group_name(GROUP)
