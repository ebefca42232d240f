"""The websocket protocol: what a client may say, and how the server's frames are written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ..values import jsontext

__all__ = [
    "CLOSE_BAD_FRAMES",
    "CLOSE_FAILED",
    "CLOSE_FLOOD",
    "CLOSE_NOT_FOUND",
    "CLOSE_SLOW",
    "MAX_CURSORS",
    "MAX_FRAME_BYTES",
    "MAX_SENT_BYTES",
    "PING",
    "Ack",
    "Attach",
    "BadFrame",
    "FrameTooLarge",
    "Name",
    "attached",
    "error",
    "event",
    "mark",
    "parse",
    "resync",
]

CLOSE_BAD_FRAMES = 4400
"""Several frames made no sense, or one was too large."""
CLOSE_NOT_FOUND = 4404
"""No such thread, not yours, or not yours any more: never told apart."""
CLOSE_SLOW = 4408
"""The client does not read, or does not say so; come back with your cursors."""
CLOSE_FLOOD = 4429
"""Too many frames in too short a time, or too many sockets."""
CLOSE_FAILED = 4500
"""Something broke here; come back with your cursors. Not 1011, which autobahn, and so daphne, does not send."""

MAX_FRAME_BYTES = 64 * 1024
"""What a client may send in one frame."""
MAX_SENT_BYTES = 128 * 1024
"""What is sent in one frame: well below the lowest default limit of clients and servers, which is 1 MiB."""
PIECE_CHARACTERS = 30_000
"""A larger event goes in pieces; a character has four bytes at most, and an escape two."""
MAX_CURSORS = 64
MAX_POSITION = 2**63 - 1
_ENVELOPE_BYTES = 256

PING = '{"v":1,"type":"ping"}'


class BadFrame(ValueError):
    """A frame that is not part of the protocol; the message is for the client."""


class FrameTooLarge(BadFrame):
    """A frame that is refused before it is parsed."""


@dataclass(frozen=True, slots=True)
class Name:
    """A stream as the client knows it: `thread:<id>` or `run:<id>`."""

    kind: Literal["thread", "run"]
    id: UUID

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}"


@dataclass(frozen=True, slots=True)
class Attach:
    """The client wants to follow the thread and its runs, from these positions on."""

    cursors: dict[Name, int]


@dataclass(frozen=True, slots=True)
class Ack:
    """The client has got everything up to a mark."""

    bytes: int


class _Attach(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["attach"]
    cursors: dict[
        Annotated[str, Field(pattern=r"^(thread|run):[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")],
        Annotated[int, Field(ge=-1, le=MAX_POSITION)],
    ] = Field(default_factory=dict, max_length=MAX_CURSORS)


class _Ack(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["ack"]
    bytes: Annotated[int, Field(ge=1, le=MAX_POSITION)]


_Frame: TypeAdapter[_Attach | _Ack] = TypeAdapter(Annotated[_Attach | _Ack, Field(discriminator="type")])


def parse(text: str | None) -> Attach | Ack:
    """Return what a frame says, read as strictly as a body over HTTP; raises `BadFrame` for anything else."""
    if text is None:
        raise BadFrame("Send text, not binary.")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as invalid:
        raise BadFrame("Send valid UTF-8.") from invalid
    if size > MAX_FRAME_BYTES:
        raise FrameTooLarge(f"A frame may have {MAX_FRAME_BYTES} bytes.")
    try:
        frame = _Frame.validate_python(jsontext.parse(text))
    except ValidationError as invalid:
        first = invalid.errors(include_url=False, include_context=False, include_input=False)[0]
        raise BadFrame(
            f"Send an attach frame with cursors, or an ack. {jsontext.shorten(first['msg'], 200)}."
        ) from invalid
    except ValueError as invalid:
        raise BadFrame(f"Send valid JSON: {jsontext.shorten(str(invalid), 200)}.") from invalid
    if isinstance(frame, _Ack):
        return Ack(frame.bytes)
    return Attach({_name(key): position for key, position in frame.cursors.items()})


def event(name: Name, seq: int, data: bytes) -> Iterator[str]:
    """Return the frames of one record: its bytes as they were stored in an envelope, or pieces of them in several."""
    if len(data) <= MAX_SENT_BYTES - _ENVELOPE_BYTES:
        yield f'{{"v":1,"stream":"{name}","seq":{seq},"event":{data.decode()}}}'
        return
    text = data.decode()
    starts = range(0, len(text), PIECE_CHARACTERS)
    for part, start in enumerate(starts):
        piece = text[start : start + PIECE_CHARACTERS]
        yield _dump(
            {"v": 1, "stream": str(name), "seq": seq, "part": part, "parts": len(starts), "piece": piece},
        )


def mark(sent: int) -> str:
    """Return the frame that asks the client to acknowledge what it has got so far."""
    return _dump({"v": 1, "type": "mark", "bytes": sent})


def attached(names: list[Name]) -> str:
    """Return the answer to an attach frame: the streams that were accepted."""
    return _dump({"v": 1, "type": "attached", "streams": [str(name) for name in names]})


def error(code: str, message: str, name: Name | None = None) -> str:
    """Return the frame that tells the client what is wrong, and with which stream."""
    stream = {} if name is None else {"stream": str(name)}
    return _dump({"v": 1, "type": "error", "code": code, "message": message, **stream})


def resync(name: Name) -> str:
    """Return the frame that tells the client to forget what it has of a stream: it follows from the start."""
    return _dump({"v": 1, "type": "resync", "stream": str(name), "after": -1})


def _name(key: str) -> Name:
    kind, _, text = key.partition(":")
    return Name("thread" if kind == "thread" else "run", UUID(text))


def _dump(frame: dict[str, object]) -> str:
    return json.dumps(frame, separators=(",", ":"), ensure_ascii=False)
