"""What a model's answer is made of, in words that each wire spells in its own way."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from agentcore.testing.faults.wire import FunctionCall

__all__ = [
    "Citation",
    "Counts",
    "Fault",
    "Finish",
    "FunctionCall",
    "Image",
    "Part",
    "Refusal",
    "Search",
    "Text",
    "Thought",
    "halves",
]


class Finish(StrEnum):
    """Why an answer ends."""

    STOP = "stop"
    CALLS = "calls"
    LENGTH = "length"
    FILTERED = "filtered"
    REFUSED = "refused"


class Fault(StrEnum):
    """What a provider says is wrong, whichever words it has for it."""

    KEY = "wrong key"
    CREDITS = "no credits"
    FORBIDDEN = "forbidden"
    MODEL = "unknown model"
    LARGE = "request too large"
    RATE = "rate limited"
    QUOTA = "quota used up"
    SERVER = "server error"
    UNAVAILABLE = "unavailable"
    OVERLOADED = "overloaded"
    CONTEXT = "context overflow"
    INVALID = "invalid request"


@dataclass(frozen=True)
class Citation:
    """A page that the whole of a text leans on."""

    url: str = "https://example.org/tides"
    title: str = "Tides"


@dataclass(frozen=True)
class Text:
    """A text that comes in these pieces."""

    pieces: tuple[str, ...]
    citations: tuple[Citation, ...] = ()

    @property
    def whole(self) -> str:
        """All of it."""
        return "".join(self.pieces)


@dataclass(frozen=True)
class Thought:
    """Reasoning, and what `Wire.seal` makes a signature of; without a text it is hidden."""

    text: str
    signature: str | None = None


@dataclass(frozen=True)
class Search:
    """A search of the web that the provider ran: the call and what it found."""

    query: str
    found: tuple[Citation, ...] = (Citation(),)


@dataclass(frozen=True)
class Image:
    """A picture that the model made."""

    data: bytes
    media_type: str = "image/png"


@dataclass(frozen=True)
class Refusal:
    """What the model says where it will not answer."""

    text: str


def halves(text: str) -> tuple[str, str]:
    """Return a text as it comes on the line, in two pieces."""
    return text[: len(text) // 2], text[len(text) // 2 :]


Part = Text | Thought | FunctionCall | Search | Image | Refusal


@dataclass(frozen=True)
class Counts:
    """Tokens: `cached`, `written` (to the cache) and `audio_in` are of the `input`, the last two of the `output`."""

    input: int = 10
    output: int = 5
    cached: int = 3
    written: int = 0
    reasoning: int = 2
    audio_in: int = 0
    audio_out: int = 0
