"""The websocket protocol: what a client may say, and how the server's frames are written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

__all__ = [
    "CLOSE_BAD_FRAMES",
    "CLOSE_FAILED",
    "CLOSE_FLOOD",
    "CLOSE_NOT_FOUND",
    "CLOSE_SLOW",
    "MAX_CURSORS",
    "MAX_FRAME_BYTES",
    "PING",
    "BadFrame",
    "FrameTooLarge",
    "Name",
    "attached",
    "error",
    "event",
    "parse",
    "resync",
]

CLOSE_FAILED = 1011
"""Something broke here; come back with your cursors."""
CLOSE_BAD_FRAMES = 4400
"""Several frames made no sense, or one was too large."""
CLOSE_NOT_FOUND = 4404
"""No such thread, not yours, or not yours any more: never told apart."""
CLOSE_SLOW = 4408
"""The client does not read; come back with your cursors."""
CLOSE_FLOOD = 4429
"""Too many frames in too short a time."""

MAX_FRAME_BYTES = 64 * 1024
MAX_CURSORS = 64
MAX_POSITION = 2**63 - 1

PING = '{"v":1,"type":"ping"}'


class BadFrame(ValueError):
    """A frame that is not part of the protocol; the message is for the client."""


class FrameTooLarge(BadFrame):
    """A frame that is not even looked into."""


@dataclass(frozen=True, slots=True)
class Name:
    """A stream as the client knows it: `thread:<id>` or `run:<id>`."""

    kind: Literal["thread", "run"]
    id: UUID

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}"


class _Attach(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["attach"]
    cursors: dict[
        Annotated[str, Field(pattern=r"^(thread|run):[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")],
        Annotated[int, Field(ge=-1, le=MAX_POSITION)],
    ] = Field(default_factory=dict, max_length=MAX_CURSORS)


def parse(text: str | None) -> dict[Name, int]:
    """Return the cursors of an attach frame; raises `BadFrame` for anything else."""
    if text is None:
        raise BadFrame("Send text, not binary.")
    try:
        if len(text) > MAX_FRAME_BYTES or len(text.encode()) > MAX_FRAME_BYTES:
            raise FrameTooLarge(f"A frame may have {MAX_FRAME_BYTES} bytes.")
        frame = _Attach.model_validate_json(text)
    except ValidationError as invalid:
        first = invalid.errors(include_url=False, include_context=False, include_input=False)[0]
        raise BadFrame(f"Send an attach frame with cursors. {first['msg']}.") from invalid
    except UnicodeEncodeError as invalid:
        raise BadFrame("Send valid UTF-8.") from invalid
    return {_name(key): position for key, position in frame.cursors.items()}


def event(name: Name, seq: int, data: bytes) -> str:
    """Return the frame of one record: its bytes as they were stored, in an envelope."""
    return f'{{"v":1,"stream":"{name}","seq":{seq},"event":{data.decode()}}}'


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
    return json.dumps(frame, separators=(",", ":"))
