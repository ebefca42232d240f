"""The typed content parts of a message, and their stored form `{"v": 1, "parts": […]}`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from ..exceptions import Invalid
from . import jsontext

VERSION = 1


@dataclass(frozen=True)
class TextPart:
    """Text for a reader."""

    text: str
    type: Literal["text"] = "text"


@dataclass(frozen=True)
class ReasoningPart:
    """A model's thinking, as far as its provider shows it."""

    text: str
    type: Literal["reasoning"] = "reasoning"


@dataclass(frozen=True)
class FilePart:
    """A file the application owns; agentcore keeps only the reference."""

    file_id: str
    filename: str
    media_type: str
    type: Literal["file"] = "file"


@dataclass(frozen=True)
class SourcePart:
    """Something an answer rests on."""

    title: str
    url: str | None = None
    document: str | None = None
    type: Literal["source"] = "source"


@dataclass(frozen=True)
class ToolCallPart:
    """A model's request to run a tool."""

    call_id: str
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    type: Literal["tool-call"] = "tool-call"


class Edited(TypedDict):
    """What a person had a call run with in the place of the model's arguments, who it was, and why."""

    arguments: dict[str, Any]
    by: str
    reason: str


@dataclass(frozen=True)
class ToolResultPart:
    """What became of a tool call: exactly one for every call.

    The call stays as the model made it; `edited` says what ran instead, where a person changed it.
    """

    call_id: str
    name: str
    status: str
    result: Any = None
    error: str = ""
    edited: Edited | None = None
    type: Literal["tool-result"] = "tool-result"

    def told(self) -> dict[str, Any]:
        """Return what a model is to read of it, as JSON data: what a provider's adapter sends."""
        told: dict[str, Any] = {"status": self.status}
        if self.status == "succeeded":
            told["result"] = self.result
        else:
            told["error"] = self.error
        if self.edited is not None:
            told["note"] = f"Not your arguments: {self.edited['by']} approved this call with the ones given here."
            told["arguments"] = self.edited["arguments"]
            told |= {"reason": self.edited["reason"]} if self.edited["reason"] else {}
        return told


Part = TextPart | ReasoningPart | FilePart | SourcePart | ToolCallPart | ToolResultPart

_PARTS: TypeAdapter[tuple[Part, ...]] = TypeAdapter(tuple[Annotated[Part, Field(discriminator="type")], ...])


def to_json(parts: Iterable[Part]) -> dict[str, Any]:
    """Return the stored form of `parts`, cleaned for every store."""
    # Field by field: what is nested too deeply is cut where it is cut in the row of its call.
    return {"v": VERSION, "parts": [{name: jsontext.clean(v) for name, v in vars(part).items()} for part in parts]}


def from_json(content: Mapping[str, Any]) -> tuple[Part, ...]:
    """Read the stored form; raises `Invalid` for a version or a part this release does not know."""
    if content.get("v") != VERSION:
        raise Invalid(f"Message content of version {content.get('v')!r} cannot be read by this release.")
    return parse(content["parts"])


def parse(parts: Sequence[Any]) -> tuple[Part, ...]:
    """Check plain data from a caller and return typed parts; raises `Invalid` naming the first fault."""
    try:
        return _PARTS.validate_python(tuple(parts))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(place) for place in first["loc"])
        raise Invalid(f"Message part {where}: {first['msg']}.") from error


def text_of(parts: Iterable[Part]) -> str:
    """Return the text parts, one paragraph each."""
    return "\n\n".join(part.text for part in parts if isinstance(part, TextPart))
