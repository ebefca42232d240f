"""The pieces of the chat-completions wire, as providers send them in a stream."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["FunctionCall", "ask", "chunk", "end", "fragment", "sse", "usage"]

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class FunctionCall:
    """A call a model asks for; `arguments` as text are sent as they are, whether JSON or not."""

    name: str
    arguments: str | Mapping[str, Any]
    call_id: str = "call_1"

    @property
    def text(self) -> str:
        """The arguments as they are sent."""
        return self.arguments if isinstance(self.arguments, str) else json.dumps(dict(self.arguments))


def sse(data: Any) -> bytes:
    """Return one frame of the stream."""
    return b"data: " + (data if isinstance(data, str) else json.dumps(data)).encode() + b"\n\n"


def chunk(delta: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
    """Return one chunk of one choice."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "test-1", "choices": [choice]}


def fragment(index: int, arguments: str, name: str | None = None, call_id: str | None = None) -> dict[str, Any]:
    """Return a chunk with a piece of a tool call; the first piece of a call names it."""
    call: dict[str, Any] = {"index": index, "function": {"arguments": arguments}}
    if name is not None:
        call |= {"id": call_id, "type": "function"}
        call["function"]["name"] = name
    return chunk({"tool_calls": [call]})


def ask(index: int, call: FunctionCall) -> Iterator[dict[str, Any]]:
    """Yield a whole call: its name, then its arguments in two halves."""
    text = call.text
    yield fragment(index, "", call.name, call.call_id)
    yield fragment(index, text[: len(text) // 2])
    yield fragment(index, text[len(text) // 2 :])


def usage(prompt: int = 10, completion: int = 5) -> dict[str, Any]:
    """Return the last chunk, with the counts."""
    counts = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    return {**chunk({}), "choices": [], "usage": counts}


def end(finish: str | None) -> list[bytes]:
    """Return the end of a stream: why it stopped, the counts and the last word; without a reason, only the word."""
    return [DONE] if finish is None else [sse(chunk({}, finish)), sse(usage()), DONE]
