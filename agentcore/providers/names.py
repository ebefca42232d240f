"""Names that every provider takes, for what a model said under one that some refuse."""

from __future__ import annotations

import hashlib
import re

TAKEN = re.compile(r"[a-zA-Z0-9_-]{1,64}")
TAKEN_ID = re.compile(r"[a-zA-Z0-9_-]{1,40}")


def tool_name(name: str) -> str:
    """Return a tool's name as it may be sent back: other characters as `_`, cut at 64.

    The log keeps what the model said.
    """
    if TAKEN.fullmatch(name):
        return name
    plain = re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:64]
    return plain if plain.strip("_-") else "unknown_tool"


def call_id(given: str) -> str:
    """Return a call's id as it may be sent back: the same for the same, of the characters and the length that all take.

    OpenAI's chat completions take 40 characters, and other providers give longer ones.
    """
    if TAKEN_ID.fullmatch(given):
        return given
    return f"call_{hashlib.sha256(given.encode('utf-8', 'replace')).hexdigest()[:32]}"
