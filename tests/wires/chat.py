"""OpenAI's chat completions, and OpenRouter's, which add reasoning with signatures, pictures and errors of their own.

`agentcore.testing.faults.wire` has the chunks; what servers do that the specification
does not say is in `oddities`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import Any

from agentcore.testing.faults.http_model import Reply, Seen
from agentcore.testing.faults.wire import DONE, ask, chunk, sse

from .chat_rules import examine
from .openai_faults import FAULTS, OpenAIError, wait_headers
from .parts import Citation, Counts, Fault, Finish, FunctionCall, Image, Part, Refusal, Search, Text, Thought, halves
from .wire import Complaint, Wire

FINISHES = {
    Finish.STOP: "stop",
    Finish.CALLS: "tool_calls",
    Finish.LENGTH: "length",
    Finish.FILTERED: "content_filter",
    Finish.REFUSED: "stop",
}


class Chat(Wire):
    """`POST /v1/chat/completions`, as OpenAI and the servers that copy it speak it."""

    name = "chat"
    model = "gpt-4.1"
    signs = False

    def speak(self, parts: Sequence[Part], finish: Finish | None, counts: Counts) -> Iterator[bytes]:
        yield sse(chunk({"role": "assistant", "content": ""}))
        calls = 0
        for part in parts:
            if isinstance(part, FunctionCall):
                yield from (sse(piece) for piece in ask(calls, part))
                calls += 1
            else:
                yield from (sse(chunk(delta)) for delta in self._deltas(part))
        if finish is not None:
            yield sse(chunk({}, FINISHES[finish]))
            yield sse({**chunk({}), "choices": [], "usage": usage(counts)})
        yield DONE

    def fails(self, fault: Fault, wait: float | None = None) -> Reply:
        error = FAULTS[fault]
        return self.refuses(error.status, {"error": error.body}, wait_headers(wait))

    def breaks(self, fault: Fault) -> bytes:
        return sse({"error": FAULTS[fault].body})

    def complain(self, complaint: Complaint) -> Reply:
        error = OpenAIError(complaint.status, complaint.message, code=complaint.code)
        return self.refuses(error.status, {"error": error.body})

    def examine(self, seen: Seen) -> None:
        examine(seen)

    def _deltas(self, part: Part) -> Iterator[dict[str, Any]]:
        """Yield what the wire says of a part; a search is seen in its citations only."""
        if isinstance(part, Text):
            yield from ({"content": piece} for piece in part.pieces)
            if part.citations:
                yield {"annotations": [annotation(part.whole, citation) for citation in part.citations]}
        elif isinstance(part, Thought):
            yield from self._reasoning(part)
        elif isinstance(part, Refusal):
            yield {"refusal": part.text}
        elif isinstance(part, Image):
            yield from self._image(part)
        elif isinstance(part, Search):
            return

    def _reasoning(self, thought: Thought) -> Iterator[dict[str, Any]]:
        """Yield the field of DeepSeek and others; OpenAI shows no reasoning here."""
        yield from ({"reasoning_content": half} for half in halves(thought.text))

    def _image(self, image: Image) -> Iterator[dict[str, Any]]:
        raise NotImplementedError("chat completions bring no pictures")


class OpenRouter(Chat):
    """`POST /api/v1/chat/completions`: one API before many, with `reasoning_details`."""

    name = "openrouter"
    model = "anthropic/claude-sonnet-4.5"
    signs = True
    ping = b": OPENROUTER PROCESSING\n\n"

    def fails(self, fault: Fault, wait: float | None = None) -> Reply:
        status, error = _openrouter_error(fault)
        return self.refuses(status, {"error": error}, {} if wait is None else {"Retry-After": str(round(wait))})

    def breaks(self, fault: Fault) -> bytes:
        _, error = _openrouter_error(fault)
        return sse({**chunk({"content": ""}, "error"), "provider": "Test", "error": error})

    def complain(self, complaint: Complaint) -> Reply:
        return self.refuses(complaint.status, {"error": {"code": complaint.status, "message": complaint.message}})

    def examine(self, seen: Seen) -> None:
        examine(seen)
        for message in seen.body["messages"]:
            for detail in message.get("reasoning_details") or ():
                seal = detail.get("signature") or detail.get("data")
                if seal is not None and not self.sealed(seal):
                    raise Complaint("Provider returned error: Invalid `signature` in `thinking` block")

    def _reasoning(self, thought: Thought) -> Iterator[dict[str, Any]]:
        kind = {"format": "anthropic-claude-v1", "index": 0}
        seal = None if thought.signature is None else self.seal(thought.signature)
        if not thought.text:
            yield {"reasoning_details": [{"type": "reasoning.encrypted", "data": seal, **kind}]}
            return
        for half in halves(thought.text):
            yield {"reasoning": half, "reasoning_details": [{"type": "reasoning.text", "text": half, **kind}]}
        if seal is not None:
            yield {"reasoning_details": [{"type": "reasoning.text", "signature": seal, **kind}]}

    def _image(self, image: Image) -> Iterator[dict[str, Any]]:
        url = f"data:{image.media_type};base64,{base64.b64encode(image.data).decode()}"
        yield {"images": [{"type": "image_url", "image_url": {"url": url}}]}


def usage(counts: Counts) -> dict[str, Any]:
    """Return the counts as chat completions have them."""
    return {
        "prompt_tokens": counts.input,
        "completion_tokens": counts.output,
        "total_tokens": counts.input + counts.output,
        "prompt_tokens_details": {"cached_tokens": counts.cached, "audio_tokens": counts.audio_in},
        "completion_tokens_details": {"reasoning_tokens": counts.reasoning, "audio_tokens": counts.audio_out},
    }


def annotation(text: str, citation: Citation) -> dict[str, Any]:
    """Return a citation of the whole text."""
    cited = {"url": citation.url, "title": citation.title, "start_index": 0, "end_index": len(text)}
    return {"type": "url_citation", "url_citation": cited}


def _openrouter_error(fault: Fault) -> tuple[int, dict[str, Any]]:
    """Return the status and the error, whose code is the status as a number."""
    statuses = {Fault.MODEL: 400, Fault.QUOTA: 403, Fault.UNAVAILABLE: 502}
    messages = {
        Fault.KEY: "User not found.",
        Fault.CREDITS: "Insufficient credits. Add more using https://openrouter.ai/settings/credits",
        Fault.MODEL: "test-1 is not a valid model ID",
        Fault.QUOTA: "Key limit exceeded (total limit).",
        Fault.UNAVAILABLE: "Provider returned error",
    }
    known = FAULTS[fault]
    status = statuses.get(fault, known.status)
    return status, {
        "code": status,
        "message": messages.get(fault, known.message),
        "metadata": {"provider_name": "Test"},
    }


CHAT = Chat()
OPENROUTER = OpenRouter()
