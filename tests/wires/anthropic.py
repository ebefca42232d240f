"""Anthropic's messages API: blocks of content, each begun, filled and stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import uuid4

from agentcore.testing.faults.http_model import HttpModel, Reply, Seen

from .anthropic_rules import examine
from .parts import Counts, Fault, Finish, FunctionCall, Image, Part, Refusal, Search, Text, Thought, halves
from .wire import Complaint, Wire

FINISHES = {
    Finish.STOP: "end_turn",
    Finish.CALLS: "tool_use",
    Finish.LENGTH: "max_tokens",
    Finish.FILTERED: "refusal",
    Finish.REFUSED: "refusal",
}
TYPES = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error"}
FAULTS = {
    Fault.KEY: (401, "authentication_error", "invalid x-api-key"),
    Fault.CREDITS: (
        400,
        "invalid_request_error",
        "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade.",
    ),
    Fault.FORBIDDEN: (403, "permission_error", "Your API key does not have permission to use the specified resource."),
    Fault.MODEL: (404, "not_found_error", "model: test-1"),
    Fault.LARGE: (413, "request_too_large", "Request exceeds the maximum size"),
    Fault.RATE: (429, "rate_limit_error", "This request would exceed your organization's rate limit of 50 per minute."),
    Fault.QUOTA: (402, "billing_error", "Your organization has reached its monthly spend limit."),
    Fault.SERVER: (500, "api_error", "Internal server error"),
    Fault.UNAVAILABLE: (503, "api_error", "Service Unavailable"),
    Fault.OVERLOADED: (529, "overloaded_error", "Overloaded"),
    Fault.CONTEXT: (400, "invalid_request_error", "prompt is too long: 200001 tokens > 200000 maximum"),
    Fault.INVALID: (400, "invalid_request_error", "temperature: range: 0..1"),
}


class Anthropic(Wire):
    """`POST /v1/messages`."""

    name = "anthropic"
    model = "claude-sonnet-5"
    ping = b'event: ping\ndata: {"type": "ping"}\n\n'

    def base(self, server: HttpModel) -> str:
        return server.address

    def speak(self, parts: Sequence[Part], finish: Finish | None, counts: Counts) -> Iterator[bytes]:
        nothing: dict[str, Any] = dict.fromkeys(["stop_reason", "stop_sequence", "stop_details", "container"])
        message = {"id": f"msg_{uuid4().hex[:8]}", "type": "message", "role": "assistant", "model": self.model}
        begun = {**message, **nothing, "content": [], "usage": usage(counts, output=1)}
        yield _event("message_start", message=begun)
        blocks = [block for part in parts for block in self._blocks(part)]
        for index, (block, deltas) in enumerate(blocks):
            yield _event("content_block_start", index=index, content_block=block)
            yield from (_event("content_block_delta", index=index, delta=delta) for delta in deltas)
            yield _event("content_block_stop", index=index)
        if finish is not None:
            refusal = next((part.text for part in parts if isinstance(part, Refusal)), None)
            details = {"type": "refusal", "category": None, "explanation": refusal} if refusal else None
            delta = {"stop_reason": FINISHES[finish], "stop_sequence": None, "stop_details": details}
            yield _event("message_delta", delta=delta, usage=usage(counts, output=counts.output))
            yield _event("message_stop")

    def fails(self, fault: Fault, wait: float | None = None) -> Reply:
        status, kind, message = FAULTS[fault]
        return self._error(status, kind, message, {} if wait is None else {"Retry-After": str(round(wait))})

    def breaks(self, fault: Fault) -> bytes:
        _, kind, message = FAULTS[fault]
        return _event("error", error={"type": kind, "message": message})

    def complain(self, complaint: Complaint) -> Reply:
        return self._error(complaint.status, TYPES[complaint.status], complaint.message, {})

    def examine(self, seen: Seen) -> None:
        examine(seen, self.sealed)

    def _error(self, status: int, kind: str, message: str, headers: Mapping[str, str]) -> Reply:
        body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}
        return self.refuses(status, body, {"request-id": "req_1", **headers})

    def _blocks(self, part: Part) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Yield each block as it begins, with what is added to it; a refusal is told at the end."""
        match part:
            case Text():
                deltas = [{"type": "text_delta", "text": piece} for piece in part.pieces]
                yield {"type": "text", "text": ""}, [*deltas, *map(_citation, _cited(part))]
            case Thought() if part.text:
                deltas = [{"type": "thinking_delta", "thinking": half} for half in halves(part.text)]
                seal = self.seal(part.signature or "unnamed")
                signed = {"type": "signature_delta", "signature": seal}
                yield {"type": "thinking", "thinking": "", "signature": ""}, [*deltas, signed]
            case Thought():
                yield {"type": "redacted_thinking", "data": self.seal(part.signature or "unnamed")}, []
            case FunctionCall():
                yield {"type": "tool_use", "id": part.call_id, "name": part.name, "input": {}}, _json(part.text)
            case Search():
                call_id = f"srvtoolu_{uuid4().hex[:8]}"
                call = {"type": "server_tool_use", "id": call_id, "name": "web_search", "input": {}}
                yield call, _json(json.dumps({"query": part.query}))
                pages = [{"url": page.url, "title": page.title} for page in part.found]
                shown = {"type": "web_search_result", "encrypted_content": self.seal("page"), "page_age": None}
                found = [{**shown, **page} for page in pages]
                yield {"type": "web_search_tool_result", "tool_use_id": call_id, "content": found}, []
            case Image():
                raise NotImplementedError("messages bring no pictures")
            case Refusal():
                return


def usage(counts: Counts, output: int) -> dict[str, Any]:
    """Return the counts as messages have them: what the cache gave or took is not part of `input_tokens`."""
    return {
        "input_tokens": counts.input - counts.cached - counts.written,
        "cache_creation_input_tokens": counts.written,
        "cache_read_input_tokens": counts.cached,
        "output_tokens": output,
        "output_tokens_details": {"thinking_tokens": counts.reasoning},
    }


def _json(text: str) -> list[dict[str, Any]]:
    """Return the pieces of a call's input: the first is empty, as it comes in fact."""
    return [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *halves(text))]


def _cited(text: Text) -> list[dict[str, Any]]:
    kind = {"type": "web_search_result_location", "cited_text": "High water", "encrypted_index": "1"}
    return [{**kind, "url": citation.url, "title": citation.title} for citation in text.citations]


def _citation(cited: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "citations_delta", "citation": cited}


def _event(kind: str, **members: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


ANTHROPIC = Anthropic()
