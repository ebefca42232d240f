"""Token usage of model calls: what is countable of a report, and sums that always fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from . import jsontext

MOST_TOKENS = 1_000_000_000
"""Of one model call: a hundred times what the largest context holds. What says more is a defect, and no count."""
MOST_DETAILS = 32
LONGEST_DETAIL = 64


@dataclass(frozen=True)
class Usage:
    """Tokens used.

    `total_tokens` is what limits and prices go by: input and output together, and more
    where a provider counts tokens (of its reasoning, say) that are in neither. It is
    never less than the two; 0 means that they are all there is. `details` keeps a
    provider's finer counts, in tokens; they are part of the others. Their common names are
    cache_read_tokens, cache_write_tokens, reasoning_tokens, input_audio_tokens and
    output_audio_tokens.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    details: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Usage) -> Usage:
        details = dict(self.details)
        for name, tokens in other.details.items():
            details[name] = _bounded(details.get(name, 0) + tokens)
        return Usage(
            _bounded(self.input_tokens + other.input_tokens),
            _bounded(self.output_tokens + other.output_tokens),
            _bounded(self.total_tokens + other.total_tokens),
            dict(islice(details.items(), MOST_DETAILS)),
        )

    def updated(self, report: object) -> tuple[Usage, list[str]]:
        """Return what a model call has used by a later report, and the names of what in it cannot be counted.

        A report is of the call so far, so its counts take the place of the earlier ones. What
        it lacks (a count of 0, or one that is no count) stays as the earlier ones said.
        """
        if not isinstance(report, Usage):
            return self, ["usage"]
        given = {name: getattr(report, name) for name in ("input_tokens", "output_tokens", "total_tokens")}
        refused = [name for name, value in given.items() if not _is_count(value)]
        counts = {name: 0 if name in refused else int(value) for name, value in given.items()}
        said = counts["input_tokens"] + counts["output_tokens"]
        if 0 < counts["total_tokens"] < said:
            refused.append("total_tokens")
            counts["total_tokens"] = 0
        details, odd = _details(report.details)
        read = counts["input_tokens"] or self.input_tokens
        written = counts["output_tokens"] or self.output_tokens
        beside = self.total_tokens - self.input_tokens - self.output_tokens
        total = max(counts["total_tokens"] or read + written + beside, read + written)
        kept = dict(islice({**self.details, **details}.items(), MOST_DETAILS))
        return Usage(read, written, total, kept), [*refused, *odd]

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
    def from_json(cls, data: Any) -> Usage:
        """Read the stored form; nothing stored is no usage, and what is no count (of an earlier version) counts 0."""
        stored = data if isinstance(data, Mapping) else {}
        names = ("input_tokens", "output_tokens", "total_tokens")
        read, written, total = (stored[name] if _is_sum(stored.get(name)) else 0 for name in names)
        details = stored.get("details")
        found = details if isinstance(details, Mapping) else {}
        return cls(
            read,
            written,
            _bounded(max(total, read + written)),
            {name: tokens for name, tokens in islice(found.items(), MOST_DETAILS) if _is_sum(tokens)},
        )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS


def _is_sum(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= jsontext.MAX_SAFE_INTEGER


def _bounded(tokens: int) -> int:
    """Return a sum that every store and reader takes; it would take millions of model calls to reach the bound."""
    return min(tokens, jsontext.MAX_SAFE_INTEGER)


def _details(given: object) -> tuple[dict[str, int], list[str]]:
    """Return the finer counts that are counts, and the names of those that are not."""
    if not isinstance(given, Mapping):
        return {}, ["details"]
    found: dict[str, int] = {}
    refused = ["details"] if len(given) > MOST_DETAILS else []
    for name, tokens in islice(given.items(), MOST_DETAILS):
        known = jsontext.clean_text(name) if isinstance(name, str) else ""
        if 0 < len(known) <= LONGEST_DETAIL and _is_count(tokens):
            found[known] = int(tokens)
        else:
            refused.append(f"details.{jsontext.shorten(known or type(name).__name__, LONGEST_DETAIL)}")
    return found, refused
