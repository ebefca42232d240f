"""A model that yields the very events a test gives it, or raises one of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from agentcore.providers import ModelEvent, ModelRequest


class Says:
    """Yields the events of its turns in order; an exception among them is raised."""

    def __init__(self, *turns: list[Any], name: str = "says", provider: str = "tests", origin: str = "") -> None:
        self.turns = list(turns)
        self.name = name
        self.provider = provider
        self.origin = origin
        self.requests: list[ModelRequest] = []

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """Play the next turn."""
        self.requests.append(request)
        for event in self.turns[len(self.requests) - 1]:
            if isinstance(event, BaseException):
                raise event
            yield event
