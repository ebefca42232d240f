"""What a batch of hints is on the channel layer: few messages, cheap to make and to look through.

Every hub gets every message and watches few of the streams in it, so a stream's key is bytes, as the layer
carries them, and nothing is built for a stream nobody watches. Frames stay separate: joining them costs the
writer more than the layer's serializer takes for a list.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from .hints import Hint

__all__ = ["GROUP", "MESSAGE_BYTES", "MESSAGE_STREAMS", "decode", "encode", "key_of"]

GROUP = "agentcore.hints"
"""The group all hubs join: one message for all of them and for all streams of a batch."""
MESSAGE_TYPE = "stream.hints"
MESSAGE_BYTES = 1 << 17
"""What the hints of one message take at most, serialized: frames there is no room for are left out."""
MESSAGE_STREAMS = 1000
"""Further streams go into the next message."""
_HEAD_BYTES = 48
_FRAME_HEAD_BYTES = 3


def key_of(stream_id: UUID) -> bytes:
    """Return a stream's key in a message."""
    return stream_id.bytes


def encode(batch: Sequence[Hint]) -> Iterator[dict[str, Any]]:
    """Return the layer's messages for hints of different streams."""
    for start in range(0, len(batch), MESSAGE_STREAMS):
        yield {"type": MESSAGE_TYPE, "hints": _entries(batch[start : start + MESSAGE_STREAMS])}


def decode(message: Mapping[str, Any], watched: Mapping[bytes, UUID]) -> list[Hint]:
    """Return a message's hints of the streams that are watched, by key; none where it makes no sense."""
    try:
        entries = message["hints"]
        return [_hint(watched[key], *entries[key]) for key in watched.keys() & entries.keys()]
    except (AttributeError, KeyError, TypeError, ValueError):
        return []


def _entries(batch: Sequence[Hint]) -> dict[bytes, tuple[int, int, tuple[bytes, ...]]]:
    room = MESSAGE_BYTES - _HEAD_BYTES * len(batch)
    entries: dict[bytes, tuple[int, int, tuple[bytes, ...]]] = {}
    for hint in batch:
        frames = hint.frames
        size = sum(map(len, frames)) + _FRAME_HEAD_BYTES * len(frames)
        if size > room:
            frames, size = (), 0
        room -= size
        entries[key_of(hint.stream_id)] = (hint.first_seq, hint.next_seq, frames)
    return entries


def _hint(stream_id: UUID, first_seq: Any, next_seq: Any, frames: Any) -> Hint:
    if not all(isinstance(frame, bytes) for frame in frames):
        raise TypeError("a frame is no bytes")
    return Hint(stream_id, int(first_seq), int(next_seq), tuple(frames))
