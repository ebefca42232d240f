"""What a batch of hints is on the channel layer: few messages, cheap to make and to look through.

Every hub gets every message and watches few of the streams in it, so a stream's key is bytes, as the layer
carries them, and nothing is built for a stream nobody watches. Frames stay separate: joining them costs the
writer more than the layer's serializer takes for a list.

Whoever can write to the layer can send hints. So frames carry a code over all they say, made with the site's secret;
without the right one a hint still says where to look, which costs a read and shows nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from hmac import compare_digest
from typing import Any
from uuid import UUID

from django.conf import settings

from .publisher import Hint

__all__ = ["GROUP", "MESSAGE_BYTES", "MESSAGE_STREAMS", "decode", "encode", "key_of"]

GROUP = "agentcore.hints"
"""The group all hubs join: one message for all of them and for all streams of a batch."""
MESSAGE_TYPE = "stream.hints"
MESSAGE_BYTES = 1 << 17
"""What the hints of one message take at most, serialized: frames there is no room for are left out."""
MESSAGE_STREAMS = 1000
"""Further streams go into the next message."""
CODE_BYTES = 16
_HEAD_BYTES = 48 + CODE_BYTES
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


def _entries(batch: Sequence[Hint]) -> dict[bytes, tuple[int, int, tuple[bytes, ...], bytes]]:
    room = MESSAGE_BYTES - _HEAD_BYTES * len(batch)
    entries: dict[bytes, tuple[int, int, tuple[bytes, ...], bytes]] = {}
    for hint in batch:
        frames = hint.frames
        size = sum(map(len, frames)) + _FRAME_HEAD_BYTES * len(frames)
        if size > room:
            frames, size = (), 0
        room -= size
        key = key_of(hint.stream_id)
        code = _code(key, hint.first_seq, hint.next_seq, frames) if frames else b""
        entries[key] = (hint.first_seq, hint.next_seq, frames, code)
    return entries


def _hint(stream_id: UUID, first_seq: Any, next_seq: Any, frames: Any, code: Any) -> Hint:
    frames = tuple(frames)
    if not (isinstance(first_seq, int) and isinstance(next_seq, int) and isinstance(code, bytes)):
        raise TypeError("a position is no number, or the code no bytes")
    if not all(isinstance(frame, bytes) for frame in frames):
        raise TypeError("a frame is no bytes")
    if frames and not compare_digest(code, _code(key_of(stream_id), first_seq, next_seq, frames)):
        frames = ()
    return Hint(stream_id, first_seq, next_seq, frames)


def _code(key: bytes, first_seq: int, next_seq: int, frames: Sequence[bytes]) -> bytes:
    """Return the code over a stream, its positions and its records; each with its length."""
    lengths = ",".join([str(first_seq), str(next_seq), *(str(len(frame)) for frame in frames)])
    mac = blake2b(key + lengths.encode() + b";", key=_secret(settings.SECRET_KEY), digest_size=CODE_BYTES)
    for frame in frames:
        mac.update(frame)
    return mac.digest()


@lru_cache(maxsize=2)
def _secret(secret_key: str) -> bytes:
    return blake2b(str(secret_key).encode(), person=b"agentcore.hints").digest()
