"""One response while it streams: pydantic-ai's events in, ours out."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pydantic_ai import messages as pai
from pydantic_ai.models import StreamedResponse

from ...conf import get_settings
from ...declaration.model import (
    CallRequested,
    FileProduced,
    ModelEvent,
    OutputDelta,
    ProviderCalled,
    ProviderReturned,
    ReasoningDelta,
    ReasoningEnded,
    SourceFound,
    TextDelta,
    TextEnded,
)
from ...values import jsontext
from ...values.finish import FinishReason
from .details import of_part, plain
from .history import COMPACTION
from .request import Asked

__all__ = ["Answer", "value_of"]

ENDS = frozenset({"finish_reason", "refusal", "block_reason"})
"""What a provider says where it ends an answer, by pydantic-ai's names."""
REASONS: dict[str, FinishReason] = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
    "tool_call": FinishReason.TOOL_CALLS,
}


class Answer:
    """What one response has said so far.

    Text and reasoning go out as they come; a part that is complete goes out when the next one begins. A call may
    still grow until the response ends, so it goes out then, and what stands behind it after it.
    """

    def __init__(self, stream: StreamedResponse, asked: Asked) -> None:
        self.stream = stream
        self.calls = 0
        self.outputs: list[pai.ToolCallPart] = []
        self.says_something = False
        # How many parts a message keeps of it.
        self.kept = 0
        # Signatures that came after their part was over, by the part's id.
        self.signatures: dict[str, str] = {}
        self._output_tool = asked.output_tool or None  # a call without a name is none of it
        self._tools = {tool.name for tool in asked.parameters.tool_defs.values()}
        self._done = 0
        self._live: int | None = None
        self._holds = False
        self._signed: dict[int, str | None] = {}
        self._cited: dict[int, int] = {}
        self._filling: set[int] = set()
        # Whether anything of it has to come back to its provider.
        self.comes_back = False

    # --- while it streams ----------------------------------------------------------------------------------------

    def take(self, event: pai.ModelResponseStreamEvent) -> Iterator[ModelEvent]:
        """Yield what an event of pydantic-ai's comes to."""
        match event:
            case pai.PartStartEvent(index=index, part=part):
                yield from self._begin(index, part)
            case pai.PartDeltaEvent(index=index, delta=pai.ToolCallPartDelta(args_delta=str(text))):
                if index in self._filling and text:
                    yield OutputDelta(text)
            case pai.PartDeltaEvent(index=index, delta=delta) if index == self._live:
                yield from self._delta(delta)

    def _begin(self, index: int, part: pai.ModelResponsePart) -> Iterator[ModelEvent]:
        if isinstance(part, pai.ToolCallPart):
            if self._name(part) == self._output_tool and index not in self._filling:
                self._filling.add(index)
                if part.args:
                    yield OutputDelta(part.args if isinstance(part.args, str) else json.dumps(part.args))
        parts = self._parts()
        # A call without a name yet is in none of the parts, but counted: what comes after it waits too.
        self._holds = self._holds or len(parts) <= index
        if self._holds or index < self._done:
            return
        yield from self._finish(parts, index)
        if self._done == index and isinstance(part, pai.TextPart | pai.ThinkingPart):
            self._live = index
            yield from self._speak(part)

    def _finish(self, parts: list[pai.ModelResponsePart], until: int) -> Iterator[ModelEvent]:
        """Yield the ends of the parts that are complete: all before `until`, but for a call and what follows it."""
        while self._done < until and not isinstance(parts[self._done], pai.ToolCallPart):
            yield from self._end_part(self._done, parts[self._done])
            self._done += 1

    def _delta(self, delta: Any) -> Iterator[ModelEvent]:
        if isinstance(delta, pai.TextPartDelta) and delta.content_delta:
            yield TextDelta(delta.content_delta)
        elif isinstance(delta, pai.ThinkingPartDelta) and delta.content_delta:
            yield ReasoningDelta(delta.content_delta)

    def _speak(self, part: pai.ModelResponsePart) -> Iterator[ModelEvent]:
        if isinstance(part, pai.TextPart) and part.content:
            yield TextDelta(part.content)
        elif isinstance(part, pai.ThinkingPart) and part.content:
            yield ReasoningDelta(part.content)

    # --- its parts, when they are complete -----------------------------------------------------------------------

    def _end_part(self, index: int, part: pai.ModelResponsePart) -> Iterator[ModelEvent]:
        details = of_part(part)
        self.comes_back = self.comes_back or details is not None
        self.kept += 1
        match part:
            case pai.TextPart(content=text):
                self.says_something = self.says_something or bool(text.strip())
                self.kept -= not (text or details)
                yield from self._sources(index, part)
                yield TextEnded(details)
            case pai.ThinkingPart(content=text):
                self.kept -= not (text or details)
                self._signed[index] = part.signature
                yield ReasoningEnded(details)
            case pai.NativeToolCallPart():
                yield ProviderCalled(part.tool_call_id, part.tool_name, value_of(part.args), details)
            case pai.NativeToolReturnPart():
                content = plain(part.content)
                if jsontext.size(content) > get_settings().result_limit:  # shown cut, and wanted back whole
                    details = {**(details or {}), "content": content}
                yield ProviderReturned(part.tool_call_id, part.tool_name, content, details)
            case pai.FilePart(content=file):
                yield FileProduced(file.media_type, file.data, provider_details=details)
            case pai.CompactionPart(content=text):
                yield from [ReasoningDelta(text)] if text else []
                yield ReasoningEnded({**(details or {}), "kind": COMPACTION})

    def _sources(self, index: int, part: pai.TextPart) -> Iterator[ModelEvent]:
        citations = part.citations or []
        for citation in citations[self._cited.get(index, 0) :]:
            anchor = citation.anchor if isinstance(citation.anchor, pai.ContentCitationAnchor) else None
            start, end = (anchor.start, anchor.end) if anchor else (None, None)
            for source in citation.sources:
                quote = source.excerpts[0] if source.excerpts else ""
                if isinstance(source, pai.WebCitationSource):
                    yield SourceFound(source.title, source.url, quote=quote, start=start, end=end)
                else:
                    yield SourceFound(source.title, document=source.document_id, quote=quote, start=start, end=end)
        self._cited[index] = len(citations)

    # --- its end -------------------------------------------------------------------------------------------------

    def close(self) -> Iterator[ModelEvent]:
        """Yield the rest: the last part's end, the calls, what stood behind them, and what came late."""
        parts = self._parts()
        for index, part in enumerate(parts[self._done :], self._done):
            if isinstance(part, pai.ToolCallPart):
                yield from self._call(part)
                continue
            if index != self._live:
                yield from self._speak(part)
            yield from self._end_part(index, part)
        for index, part in enumerate(parts[: self._done]):
            if isinstance(part, pai.TextPart):
                yield from self._sources(index, part)
            elif isinstance(part, pai.ThinkingPart) and part.id and part.signature != self._signed.get(index):
                self.signatures[part.id] = part.signature or ""
        self._done = len(parts)
        refusal = self._said.get("refusal")
        if self.reason == FinishReason.REFUSAL and isinstance(refusal, str) and refusal:
            yield TextDelta(refusal)
            yield TextEnded()

    def _call(self, part: pai.ToolCallPart) -> Iterator[ModelEvent]:
        name = self._name(part)
        if name == self._output_tool:
            self.outputs.append(replace(part, tool_name=name))
            return
        self.calls += 1
        self.kept += 1
        details = of_part(part)
        if details is not None:
            self.comes_back = True
            details["call_id"] = part.tool_call_id
        arguments = part.args if part.args is not None else ""
        yield CallRequested(part.tool_call_id, name, arguments, details)

    def _name(self, part: pai.ToolCallPart) -> str:
        """Return the tool that a call is of: some chat servers say its name with every piece, so it comes repeated.

        Two calls that arrive as one, with the names in a row, have arguments that are no JSON, and do not run.
        """
        said = part.tool_name
        if not said or said in self._tools or not is_chat(self.stream):
            return said
        return next((name for name in self._tools if said == name * (len(said) // len(name))), said)

    @property
    def thought_of_record(self) -> str:
        """The id of the thought that the record was given right after; empty where that is none, or has no id."""
        before: pai.ModelResponsePart | None = None
        for part in self._parts():
            if not isinstance(part, pai.ToolCallPart):
                before = part
            elif part.tool_call_id == self.outputs[-1].tool_call_id:
                break
        return (before.id or "") if isinstance(before, pai.ThinkingPart) else ""

    @property
    def response(self) -> pai.ModelResponse:
        """All that it has said, as pydantic-ai has it."""
        return self.stream.get()

    @property
    def ended(self) -> bool:
        """Whether its provider has said that it ends; a stream that is closed politely has not.

        Chat completions without an end get one from pydantic-ai; models that run in this process say none.
        """
        if ENDS & self._said.keys():
            return True
        if self.stream.provider_url is None:
            return self.response.state == "complete"
        return self.stream.finish_reason is not None and not is_chat(self.stream)

    @property
    def reason(self) -> str | None:
        """Why it ended: our word for it, or the provider's where there is none."""
        said = self._said.get("finish_reason")
        if said == "refusal" or "refusal" in self._said:
            return FinishReason.REFUSAL
        reason = REASONS.get(self.stream.finish_reason or "")
        if reason in (FinishReason.STOP, FinishReason.TOOL_CALLS) or (reason is None and said is None):
            if self.calls:  # some providers say "stop" after a call
                return FinishReason.TOOL_CALLS
            return reason if reason is None or not self.outputs else FinishReason.STOP  # the record is no tool
        return reason or str(said)

    @property
    def has_failed(self) -> bool:
        """Whether its provider says that it failed, and ended it for that."""
        return "error" in (self.stream.finish_reason, self._said.get("finish_reason"))

    @property
    def _said(self) -> dict[str, Any]:
        return self.stream.provider_details or {}

    def _parts(self) -> list[pai.ModelResponsePart]:
        return list(self.stream.get().parts)


def is_chat(stream: StreamedResponse) -> bool:
    """Whether a stream is of OpenAI's chat completions, or a server's that copies them."""
    module = sys.modules.get("pydantic_ai.models.openai")
    return module is not None and isinstance(stream, module.OpenAIStreamedResponse)


def value_of(arguments: Any) -> Any:
    """Return arguments as data, or as the text they came as where that is no JSON."""
    if not isinstance(arguments, str):
        return arguments
    try:
        return jsontext.parse(arguments)
    except ValueError:
        return arguments
