"""How many tokens a request and its answer have, for a model that does not report them: by their characters."""

from __future__ import annotations

import json
from typing import Any

from ...declaration.model import ModelRequest
from ...values import parts
from ...values.usage import Usage

CHARACTERS_PER_TOKEN = 4
ESTIMATED = "estimated_tokens"
"""The detail of a usage that says how many of its tokens nobody has counted."""


def length_of(request: ModelRequest) -> int:
    """Return how many characters a request has, for an estimate of its tokens."""
    said = [parts.to_json(message.parts) for message in request.messages]
    tools = [[tool.name, tool.description, tool.parameters] for tool in request.tools]
    texts = [request.instructions, request.feedback, *(block.text for block in request.context)]
    return sum(map(len, texts)) + length(said) + length(tools) + length(request.output_schema)


def estimate(read: int, written: int) -> Usage:
    """Return what so many characters count as, marked as an estimate."""
    tokens_in, tokens_out = -(-read // CHARACTERS_PER_TOKEN), -(-written // CHARACTERS_PER_TOKEN)
    return Usage(tokens_in, tokens_out, tokens_in + tokens_out, {ESTIMATED: tokens_in + tokens_out})


def length(value: Any) -> int:
    """Return how many characters a value has as JSON."""
    return len(json.dumps(value, ensure_ascii=False, default=str)) if value else 0
