"""Tokens by characters, for a model that does not say what it used."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ...declaration.model import CallRequested, ModelRequest
from ...values import parts
from ...values.parts import Part
from ...values.usage import Usage

CHARACTERS_PER_TOKEN = 4
ESTIMATED = "estimated_tokens"
"""The detail of a usage that says how many of its tokens nobody has counted."""


def characters(request: ModelRequest) -> int:
    """Return how long a request is, as text."""
    said = [parts.to_json(message.parts) for message in request.messages]
    tools = [[tool.name, tool.description, tool.parameters] for tool in request.tools]
    texts = [request.instructions, request.feedback, *(block.text for block in request.context)]
    return sum(map(len, texts)) + _length(said) + _length(tools) + _length(request.output_schema)


def answer(said: Sequence[Part], calls: Sequence[CallRequested], outputs: Sequence[object]) -> int:
    """Return how long an answer is."""
    asked = [[call.name, call.arguments] for call in calls]
    return sum(map(_length, (parts.to_json(said) if said else None, asked, outputs)))


def usage(read: int, written: int) -> Usage:
    """Return what so many characters count as, marked as an estimate."""
    tokens_in, tokens_out = -(-read // CHARACTERS_PER_TOKEN), -(-written // CHARACTERS_PER_TOKEN)
    return Usage(tokens_in, tokens_out, tokens_in + tokens_out, {ESTIMATED: tokens_in + tokens_out})


def _length(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, default=str)) if value else 0
