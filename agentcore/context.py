"""What an application hands to the model's input, and what it is told when it does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from . import jsontext


@dataclass(frozen=True)
class ContextBlock:
    """Text for the model's input, under a name an auditor will recognise."""

    name: str
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the stored form, cleaned for every store."""
        stored: dict[str, Any] = jsontext.clean({"name": self.name, "text": self.text, "metadata": dict(self.metadata)})
        return stored

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ContextBlock:
        """Read the stored form."""
        return cls(data["name"], data["text"], dict(data.get("metadata", {})))


@dataclass(frozen=True)
class LoaderContext:
    """What a context loader may look at."""

    run_id: UUID
    thread_id: UUID
    agent: str
    user: Any
    prompt: str
    metadata: Mapping[str, Any]


ContextLoader = Callable[[LoaderContext], Iterable[ContextBlock] | Awaitable[Iterable[ContextBlock]]]
Instructions = str | Callable[[LoaderContext], str | Awaitable[str]]
