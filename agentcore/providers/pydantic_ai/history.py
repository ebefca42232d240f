"""The messages of a thread, as pydantic-ai's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic_ai import messages as pai

from ...declaration.model import ModelMessage
from ...values.parts import (
    FilePart,
    Part,
    ProviderCallPart,
    ProviderResultPart,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    text_of,
)
from .. import names
from . import files
from .details import fields_of, response_fields

__all__ = ["COMPACTION", "RECORDED", "REPLY_NOW", "History", "record_call"]

COMPACTION = "compaction"
RECORDED = "Recorded."
REPLY_NOW = "Recorded. Now write your reply."
BEGINNING = "(The conversation begins.)"

Outcome = Literal["success", "failed", "denied", "interrupted"]
OUTCOMES: Mapping[str, Outcome] = {
    "succeeded": "success",
    "denied": "denied",
    "canceled": "interrupted",
    "effect_unverified": "interrupted",
}


class History:
    """What has been said, message by message; `profile` says what the model reads, `loaded` are the files' bytes.

    Calls are known by our ids, but for those whose provider has ids of its own that belong
    to the call: they get the one back that it gave.
    """

    def __init__(self, loaded: Mapping[str, bytes | str], profile: Mapping[str, Any]) -> None:
        self.messages: list[pai.ModelMessage] = []
        self._loaded = loaded
        self._profile = profile
        self._request: list[pai.ModelRequestPart] = []
        self._given_ids: dict[str, str] = {}
        self._used: set[str] = set()

    def add(self, message: ModelMessage) -> None:
        """Add a message of the thread."""
        if message.author == "agent":
            self._answer(message)
        elif message.author == "system":
            self._request.append(pai.SystemPromptPart(text_of(message.parts)))
        elif message.author == "tool":
            results = [part for part in message.parts if isinstance(part, ToolResultPart)]
            self._request += [self._result(part) for part in results]
        elif content := self._content(message.parts):
            self._request.append(pai.UserPromptPart(content))

    def ask(self, text: str) -> None:
        """Add a word of the application's own."""
        self._request.append(pai.UserPromptPart(text))

    def ended(self, default: str) -> list[pai.ModelMessage]:
        """Return all messages; the last one asks for something, and where none does, it is `default`."""
        if not self._request:
            self.ask(default)
        self._close()
        return self.messages

    def _close(self) -> None:
        if self._request:
            self.messages.append(pai.ModelRequest(parts=self._request))
            self._request = []

    def _content(self, parts: Sequence[Part]) -> str | list[pai.UserContent]:
        if not any(isinstance(part, FilePart) for part in parts):
            return text_of(parts)
        content: list[pai.UserContent] = []
        for part in parts:
            if isinstance(part, TextPart) and part.text:
                content.append(part.text)
            elif isinstance(part, FilePart):
                content.append(files.content_of(part, self._loaded, self._profile))
        return content

    def _result(self, part: ToolResultPart) -> pai.ToolReturnPart:
        call_id = self._given_ids.get(part.call_id, part.call_id)
        return pai.ToolReturnPart(part.name, part.told(), call_id, outcome=OUTCOMES.get(part.status, "failed"))

    def _answer(self, message: ModelMessage) -> None:
        details = message.provider_details or {}
        signatures = dict(details.get("signatures") or {})
        parts = [said for part in message.parts if (said := self._said(part, signatures)) is not None]
        fields = response_fields(details)
        record = details.get("output")
        if not isinstance(record, Mapping):
            self._respond(parts, fields)
            return
        call = record_call(record["call"])
        if (first := record.get("response")) is None:
            self._respond(_with_record(parts, call, record["after"]), fields)
            self._request.append(pai.ToolReturnPart(call.tool_name, RECORDED, call.tool_call_id))
        else:
            silent, reply = parts[: record["parts"]], parts[record["parts"] :]
            self._respond(_with_record(silent, call, record["after"]), response_fields(first))
            self._request.append(pai.ToolReturnPart(call.tool_name, REPLY_NOW, call.tool_call_id))
            self._respond(reply, fields)

    def _unused(self, call_id: str) -> str:
        """Return an id that no other call of the history has: ours are of one run only."""
        unused = call_id
        while unused in self._used:
            unused = names.call_id(f"{unused}:again")
        self._used.add(unused)
        return unused

    def _respond(self, parts: list[pai.ModelResponsePart], fields: Mapping[str, Any]) -> None:
        if parts:
            if not self.messages and not self._request:
                self.ask(BEGINNING)  # some want a word of the user's first
            self._close()
            self.messages.append(pai.ModelResponse(parts=parts, **fields))

    def _said(self, part: Part, signatures: dict[str, str]) -> pai.ModelResponsePart | None:
        """Return a part as its provider reads it; None for what is for people, and for what only another one reads."""
        details = getattr(part, "provider_details", None) or {}
        fields = fields_of(details)
        match part:
            case TextPart(text) if fields or text.strip():  # blank text is refused by some
                return pai.TextPart(text, **_without_signature(fields))
            case ReasoningPart(text) if details.get("kind") == COMPACTION:
                return pai.CompactionPart(text or None, **_without_signature(fields))
            case ReasoningPart(text) if fields:
                late = signatures.pop(fields.get("id", ""), None)
                return pai.ThinkingPart(text, **(fields if late is None else {**fields, "signature": late}))
            case ToolCallPart(call_id, name, arguments):
                given = self._given_ids[call_id] = details.get("call_id") or self._unused(call_id)
                return pai.ToolCallPart(name, dict(arguments), given, **_without_signature(fields))
            case ProviderCallPart(call_id, name, arguments) if fields:
                args = arguments if isinstance(arguments, str | dict) else None
                return pai.NativeToolCallPart(name, args, call_id, **_without_signature(fields))
            case ProviderResultPart(call_id, name, result) if fields:
                content = details.get("content", result)
                return pai.NativeToolReturnPart(name, content, call_id, **_without_signature(fields, "id"))
            case FilePart(file_id) if isinstance(data := self._loaded.get(file_id), bytes):
                content = pai.BinaryContent(data, media_type=files.media_type_of(part))
                return pai.FilePart(content, **_without_signature(fields))
        return None


def _with_record(
    parts: Sequence[pai.ModelResponsePart], call: pai.ToolCallPart, thought: str
) -> list[pai.ModelResponsePart]:
    """Return the parts with the record last, or right after its own thought: they are refused one without the other."""
    place = len(parts)
    for after, part in enumerate(parts, start=1):
        if thought and isinstance(part, pai.ThinkingPart) and part.id == thought:
            place = after
    return [*parts[:place], call, *parts[place:]]


def record_call(call: Mapping[str, Any]) -> pai.ToolCallPart:
    """Return the call by which a model gave its structured output."""
    return pai.ToolCallPart(call["name"], call["arguments"], call["call_id"], **_without_signature(fields_of(call)))


def _without_signature(fields: Mapping[str, Any], *more: str) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in ("signature", *more)}
