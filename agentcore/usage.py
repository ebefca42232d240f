"""Token usage of model calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Usage:
    """Tokens used; `details` keeps a provider's finer counts (cached, reasoning, …), in tokens."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    details: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Usage) -> Usage:
        details = dict(self.details)
        for name, tokens in other.details.items():
            details[name] = details.get(name, 0) + tokens
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.total_tokens + other.total_tokens,
            details,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the stored form."""
        return {
            "v": 1,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "total_tokens": self.total_tokens,
            "details": dict(self.details),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> Usage:
        """Read the stored form; nothing stored is no usage."""
        if not data:
            return cls()
        return cls(data["input_tokens"], data["output_tokens"], data["total_tokens"], dict(data["details"]))
