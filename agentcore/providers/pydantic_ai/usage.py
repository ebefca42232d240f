"""Tokens, as pydantic-ai counts them."""

from __future__ import annotations

from typing import Any

from pydantic_ai.models import StreamedResponse
from pydantic_ai.usage import RequestUsage

from ...values.usage import Usage
from .answer import is_chat

__all__ = ["count_cumulatively", "usage_of"]

DETAILS = ("cache_read_tokens", "cache_write_tokens", "input_audio_tokens", "output_audio_tokens")
REASONING = ("reasoning_tokens", "thinking_tokens", "thoughts_tokens")
"""What providers call them, where pydantic-ai leaves them under their names."""


def usage_of(counted: RequestUsage) -> Usage:
    """Return the counts of a response as they stand."""
    details: dict[str, Any] = {name: getattr(counted, name) for name in DETAILS}
    said = (counted.details.get(name) for name in REASONING)
    details["reasoning_tokens"] = counted.output_reasoning_tokens or next(filter(None, said), 0)
    return Usage(
        counted.input_tokens,
        counted.output_tokens,
        details={name: tokens for name, tokens in details.items() if tokens},
    )


def count_cumulatively(stream: StreamedResponse) -> None:
    """Have a stream of chat completions take its last report of usage, and not the sum of all.

    Some servers report with every chunk what was used so far. The setting for that would also ask the server for it,
    which others refuse; so it is set where the answer is read, and nowhere else.
    """
    if is_chat(stream):
        settings = stream._model_settings or {}  # type: ignore[attr-defined]
        stream._model_settings = {**settings, "openai_continuous_usage_stats": True}  # type: ignore[attr-defined]
