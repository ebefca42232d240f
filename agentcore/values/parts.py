"""The typed content parts of a message, and their stored form `{"v": 1, "parts": […]}`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from ..exceptions import Invalid
from . import jsontext

VERSION = 1


ProviderDetails = Mapping[str, Any]
"""What a provider wants back with a part it made (a signature, an id of its own), as JSON data that only it reads.

Stored in a column of its own, which no event and no answer of the API shows.
"""


@dataclass(frozen=True)
class TextPart:
    """Text for a reader."""

    text: str
    type: Literal["text"] = "text"
    provider_details: ProviderDetails | None = None


@dataclass(frozen=True)
class ReasoningPart:
    """A model's thinking, as far as its provider shows it."""

    text: str
    type: Literal["reasoning"] = "reasoning"
    provider_details: ProviderDetails | None = None


@dataclass(frozen=True)
class FilePart:
    """A file: one that the application owns, under its `file_id`, or one at a `url`. Agentcore keeps no bytes."""

    file_id: str = ""
    filename: str = ""
    media_type: str = ""
    url: str = ""
    type: Literal["file"] = "file"
    provider_details: ProviderDetails | None = None

    @property
    def ref(self) -> str:
        """What it is known by: its `file_id`, or else its `url`."""
        return self.file_id or self.url


@dataclass(frozen=True)
class SourcePart:
    """Something an answer rests on; `quote` is a passage of it.

    `start` and `end` are the characters that it supports of the text part that comes before it in its message.
    """

    title: str
    url: str | None = None
    document: str | None = None
    quote: str = ""
    start: int | None = None
    end: int | None = None
    type: Literal["source"] = "source"


@dataclass(frozen=True)
class ToolCallPart:
    """A model's request to run a tool."""

    call_id: str
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    type: Literal["tool-call"] = "tool-call"
    provider_details: ProviderDetails | None = None


@dataclass(frozen=True)
class ProviderCallPart:
    """A tool that the model's provider ran itself, a web search say; `call_id` is the provider's."""

    call_id: str
    name: str
    arguments: Any = None
    type: Literal["provider-call"] = "provider-call"
    provider_details: ProviderDetails | None = None


@dataclass(frozen=True)
class ProviderResultPart:
    """What came of a tool that the model's provider ran itself."""

    call_id: str
    name: str
    result: Any = None
    type: Literal["provider-result"] = "provider-result"
    provider_details: ProviderDetails | None = None


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


Part = (
    TextPart
    | ReasoningPart
    | FilePart
    | SourcePart
    | ToolCallPart
    | ToolResultPart
    | ProviderCallPart
    | ProviderResultPart
)

_Detailed = TextPart | ReasoningPart | FilePart | ToolCallPart | ProviderCallPart | ProviderResultPart
_NO_DEFAULT = object()
_PARTS: TypeAdapter[tuple[Part, ...]] = TypeAdapter(tuple[Annotated[Part, Field(discriminator="type")], ...])


def to_json(parts: Iterable[Part]) -> dict[str, Any]:
    """Return the stored form of `parts`, cleaned for every store, without what is only for providers."""
    return {"v": VERSION, "parts": [_fields(part) for part in parts]}


def details_to_json(
    parts: Iterable[Part], origin: str, response: ProviderDetails | None = None
) -> dict[str, Any] | None:
    """Return the stored form of what the provider at `origin` wants back; None where that is nothing.

    `response` is what it wants back with the answer as a whole.
    """
    details = [details_of(part) for part in parts]
    if not origin or (not any(details) and not response):
        return None
    return {"v": VERSION, "origin": origin, "parts": details, "response": response}


def details_of(part: Part) -> ProviderDetails | None:
    """Return what a part's provider wants back with it."""
    return part.provider_details if isinstance(part, _Detailed) else None


def from_json(content: Mapping[str, Any], details: Mapping[str, Any] | None = None) -> tuple[Part, ...]:
    """Read the stored forms; raises `Invalid` for a version or a part this release does not know."""
    if content.get("v") != VERSION:
        raise Invalid(f"Message content of version {content.get('v')!r} cannot be read by this release.")
    found = _typed(content["parts"])
    if details is None or len(details["parts"]) != len(found):  # somebody has changed what was said
        return found
    pairs = zip(found, details["parts"], strict=True)
    return tuple(part if given is None else with_details(part, given) for part, given in pairs)


def parse(parts: Sequence[Any]) -> tuple[Part, ...]:
    """Check plain data from a caller and return typed parts, without details; raises `Invalid` for the first fault."""
    found = _typed(parts)
    for place, part in enumerate(found):
        if isinstance(part, FilePart) and (fault := _fault_of(part)):
            raise Invalid(f"Message part {place}: {fault}")
    return tuple(part if details_of(part) is None else with_details(part, None) for part in found)


def is_web_address(url: str) -> bool:
    """Whether it is an address that a page may link to."""
    return url.lower().startswith(("https://", "http://"))


def _typed(parts: Sequence[Any]) -> tuple[Part, ...]:
    try:
        return _PARTS.validate_python(tuple(parts))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(place) for place in first["loc"])
        raise Invalid(f"Message part {where}: {first['msg']}.") from error


def _fault_of(part: FilePart) -> str:
    if bool(part.file_id) == bool(part.url):
        return "a file has either a file_id or a url."
    if part.url and not is_web_address(part.url):
        return "the url of a file begins with https:// or http://."
    return ""


def with_details(part: Part, details: ProviderDetails | None) -> Part:
    """Return a part with other details for its provider."""
    return replace(part, provider_details=details) if isinstance(part, _Detailed) else part


def _fields(part: Part) -> dict[str, Any]:
    """Return what is shown of a part: what differs from its defaults, and its type.

    Field by field: what is nested too deeply is cut where it is cut in the row of its call.
    """
    kind = type(part)
    said = {name: value for name, value in vars(part).items() if name != "provider_details"}
    return {
        name: jsontext.clean(value)
        for name, value in said.items()
        if name == "type" or value != getattr(kind, name, _NO_DEFAULT)
    }


def text_of(parts: Iterable[Part]) -> str:
    """Return the text parts, one paragraph each."""
    return "\n\n".join(part.text for part in parts if isinstance(part, TextPart) and part.text)
