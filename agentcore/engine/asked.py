"""The calls that a run's model has asked for, as far as limits on them go."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..models import Run, ToolCall
from ..values import jsontext


@dataclass(frozen=True)
class Asked:
    """How many calls there were, and how often the last one was asked for in a row, with the same arguments."""

    count: int = 0
    repeats: int = 0
    last: str = ""

    def and_then(self, calls: Iterable[tuple[str, str]]) -> Asked:
        """Return what it is after more calls, each a name and its arguments."""
        asked = self
        for name, arguments in calls:
            call = jsontext.digest(name, arguments)
            asked = Asked(asked.count + 1, asked.repeats + 1 if call == asked.last else 1, call)
        return asked


def read(run: Run) -> Asked:
    """Return what a run's rows say."""
    calls = ToolCall.objects.filter(run=run).order_by("pk").values_list("name", "arguments")
    return Asked().and_then(calls.iterator(chunk_size=500))
