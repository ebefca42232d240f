"""OpenAI's responses API, which numbers its events and says each thing twice: as it comes, and when it is done."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import uuid4

from agentcore.testing.faults.http_model import Reply, Seen

from .openai_faults import FAULTS, OpenAIError, wait_headers
from .parts import Counts, Fault, Finish, FunctionCall, Image, Part, Refusal, Search, Text, Thought, halves
from .responses_rules import NEEDS, examine
from .wire import Complaint, Wire

INCOMPLETE = {Finish.LENGTH: "max_output_tokens", Finish.FILTERED: "content_filter"}


class Responses(Wire):
    """`POST /v1/responses`."""

    name = "responses"
    model = "gpt-5"
    ping = b'event: keepalive\ndata: {"type":"keepalive","sequence_number":0}\n\n'

    def speak(self, parts: Sequence[Part], finish: Finish | None, counts: Counts) -> Iterator[bytes]:
        stream = _Stream(self)
        yield stream.event("response.created", response=stream.response("in_progress"))
        yield stream.event("response.in_progress", response=stream.response("in_progress"))
        for part in parts:
            yield from stream.speak(part)
        if finish is not None:
            reason = INCOMPLETE.get(finish)
            status = "incomplete" if reason else "completed"
            ended = {"usage": usage(counts), "incomplete_details": {"reason": reason} if reason else None}
            yield stream.event(f"response.{status}", response={**stream.response(status), **ended})

    def fails(self, fault: Fault, wait: float | None = None) -> Reply:
        error = _error(fault)
        return self.refuses(error.status, {"error": error.body}, wait_headers(wait))

    def breaks(self, fault: Fault) -> bytes:
        """Return the frame that the server sends in fact, with the error inside; the specification has it flat."""
        return _frame({"type": "error", "sequence_number": 99, "error": _error(fault).body})

    def breaks_flat(self, fault: Fault) -> bytes:
        """Return the frame of the specification."""
        return _frame({**_error(fault).body, "type": "error", "sequence_number": 99})

    def breaks_as_failed(self, fault: Fault) -> bytes:
        """Return the frame that ends a response which failed on the way."""
        error = {"code": _error(fault).code or "server_error", "message": _error(fault).message}
        response = {**_Stream(self).response("failed"), "error": error}
        return _frame({"type": "response.failed", "sequence_number": 99, "response": response})

    def complain(self, complaint: Complaint) -> Reply:
        error = OpenAIError(complaint.status, complaint.message, code=complaint.code, param="input")
        return self.refuses(error.status, {"error": error.body})

    def examine(self, seen: Seen) -> None:
        examine(seen, self.sealed)


class _Stream:
    """One response on its way: the number of the next event, and the items that are done."""

    def __init__(self, wire: Responses) -> None:
        self.wire = wire
        self.mark = uuid4().hex[:8]
        self.numbers = itertools.count()
        self.output: list[dict[str, Any]] = []
        self.thought = ""

    def event(self, kind: str, **members: Any) -> bytes:
        return _frame({"type": kind, "sequence_number": next(self.numbers), **members})

    def response(self, status: str) -> dict[str, Any]:
        nothing = dict.fromkeys(["error", "incomplete_details", "instructions", "usage"])
        given = {"id": f"resp_{self.mark}", "object": "response", "created_at": 1, "status": status, "model": "gpt-5"}
        asked = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "metadata": {}}
        return {**nothing, **given, **asked, "output": list(self.output)}

    def speak(self, part: Part) -> Iterator[bytes]:
        match part:
            case Text():
                yield from self._message(part, {"type": "output_text", "text": part.whole, "annotations": _cited(part)})
            case Refusal():
                yield from self._message(part, {"type": "refusal", "refusal": part.text})
            case Thought():
                yield from self._reasoning(part)
            case FunctionCall():
                yield from self._call(part)
            case Search():
                yield from self._search(part)
            case Image():
                yield from self._image(part)

    def _id(self, kind: str) -> str:
        """Return an id; that of an item which follows a thought says so, for the rules to know it again."""
        needed = f"{NEEDS}{self.thought}" if self.thought else ""
        self.thought = ""
        return f"{kind}_{self.mark}{len(self.output)}{needed}"

    def _item(self, item: Mapping[str, Any], done: Mapping[str, Any], between: Iterator[bytes]) -> Iterator[bytes]:
        """Yield an item as it begins, what is said of it on the way, and the item when it is done."""
        yield self.event("response.output_item.added", output_index=len(self.output), item=item)
        yield from between
        whole = {**item, **done}
        yield self.event("response.output_item.done", output_index=len(self.output), item=whole)
        self.output.append(whole)

    def _message(self, part: Text | Refusal, content: dict[str, Any]) -> Iterator[bytes]:
        item_id = self._id("msg")
        item = {"id": item_id, "type": "message", "status": "in_progress", "role": "assistant", "content": []}
        place = {"item_id": item_id, "output_index": len(self.output), "content_index": 0}
        done = {"status": "completed", "content": [content]}
        yield from self._item(item, done, self._content(place, part, content))

    def _content(self, place: Mapping[str, Any], part: Text | Refusal, content: dict[str, Any]) -> Iterator[bytes]:
        empty = {**content, **({"text": "", "annotations": []} if isinstance(part, Text) else {"refusal": ""})}
        yield self.event("response.content_part.added", **place, part=empty)
        if isinstance(part, Text):
            for piece in part.pieces:
                yield self.event("response.output_text.delta", **place, delta=piece, logprobs=[])
            for number, cited in enumerate(_cited(part)):
                name = "response.output_text.annotation.added"
                yield self.event(name, **place, annotation_index=number, annotation=cited)
            yield self.event("response.output_text.done", **place, text=part.whole, logprobs=[])
        else:
            yield self.event("response.refusal.delta", **place, delta=part.text)
            yield self.event("response.refusal.done", **place, refusal=part.text)
        yield self.event("response.content_part.done", **place, part=content)

    def _reasoning(self, thought: Thought) -> Iterator[bytes]:
        item_id = self._id("rs")
        seal = None if thought.signature is None else self.wire.seal(thought.signature)
        summary = [{"type": "summary_text", "text": thought.text}] if thought.text else []
        item: dict[str, Any] = {"id": item_id, "type": "reasoning", "summary": [], "encrypted_content": None}
        done = {"summary": summary, "encrypted_content": seal}
        place = {"item_id": item_id, "output_index": len(self.output), "summary_index": 0}
        yield from self._item(item, done, self._summary(place, thought) if thought.text else iter(()))
        self.thought = item_id

    def _summary(self, place: Mapping[str, Any], thought: Thought) -> Iterator[bytes]:
        name = "response.reasoning_summary"
        yield self.event(f"{name}_part.added", **place, part={"type": "summary_text", "text": ""})
        for half in halves(thought.text):
            yield self.event(f"{name}_text.delta", **place, delta=half)
        yield self.event(f"{name}_text.done", **place, text=thought.text)
        yield self.event(f"{name}_part.done", **place, part={"type": "summary_text", "text": thought.text})

    def _call(self, call: FunctionCall) -> Iterator[bytes]:
        item = {"id": self._id("fc"), "type": "function_call", "call_id": call.call_id, "name": call.name}
        begun = {**item, "status": "in_progress", "arguments": ""}
        yield from self._item(begun, {"status": "completed", "arguments": call.text}, self._arguments(item["id"], call))

    def _arguments(self, item_id: str, call: FunctionCall) -> Iterator[bytes]:
        place = {"item_id": item_id, "output_index": len(self.output)}
        for half in halves(call.text):
            yield self.event("response.function_call_arguments.delta", **place, delta=half)
        yield self.event("response.function_call_arguments.done", **place, name=call.name, arguments=call.text)

    def _search(self, search: Search) -> Iterator[bytes]:
        item_id = self._id("ws")
        sources = [{"type": "url", "url": page.url} for page in search.found]
        action = {"type": "search", "query": search.query, "queries": [search.query], "sources": sources}
        item = {"id": item_id, "type": "web_search_call", "status": "in_progress", "action": {"type": "search"}}
        yield from self._item(item, {"status": "completed", "action": action}, self._steps("web_search_call", item_id))

    def _image(self, image: Image) -> Iterator[bytes]:
        item_id = self._id("ig")
        item = {"id": item_id, "type": "image_generation_call", "status": "in_progress", "result": None}
        result = base64.b64encode(image.data).decode()
        done = {"status": "completed", "result": result, "output_format": image.media_type.removeprefix("image/")}
        yield from self._item(item, done, self._steps("image_generation_call", item_id))

    def _steps(self, kind: str, item_id: str) -> Iterator[bytes]:
        steps = ("in_progress", "generating" if kind == "image_generation_call" else "searching", "completed")
        for step in steps:
            yield self.event(f"response.{kind}.{step}", item_id=item_id, output_index=len(self.output))


def usage(counts: Counts) -> dict[str, Any]:
    """Return the counts as responses have them."""
    return {
        "input_tokens": counts.input,
        "input_tokens_details": {"cached_tokens": counts.cached, "cache_write_tokens": counts.written},
        "output_tokens": counts.output,
        "output_tokens_details": {"reasoning_tokens": counts.reasoning},
        "total_tokens": counts.input + counts.output,
    }


def _cited(text: Text) -> list[dict[str, Any]]:
    whole = {"type": "url_citation", "start_index": 0, "end_index": len(text.whole)}
    return [{**whole, "url": citation.url, "title": citation.title} for citation in text.citations]


def _error(fault: Fault) -> OpenAIError:
    if fault is Fault.CONTEXT:
        message = "Your input exceeds the context window of this model. Please adjust your input and try again."
        return OpenAIError(400, message, code="context_length_exceeded", param="input")
    return FAULTS[fault]


def _frame(event: Mapping[str, Any]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


RESPONSES = Responses()
