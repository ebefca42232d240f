"""The workloads, as every subject runs them: rounds of tool calls, then an answer in words.

Nothing here needs more than the standard library: the peers have an environment of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

PROMPT = "What is the weather in Paris?"
TOOL = "weather"
CITIES = ("Paris", "Oslo", "Lima", "Cairo")

tool_calls = 0


@dataclass(frozen=True)
class Call:
    """What the model asks for: the tool, for a city."""

    id: str
    arguments: dict[str, str]


@dataclass(frozen=True)
class Workload:
    """One run: so many rounds of so many calls each, and an answer of so many words."""

    name: str
    part: str
    """Of the table."""
    rounds: int
    calls: int
    length: int
    merged: bool
    """Whether who writes by hand stores the answer as one delta, as agentcore does, or each word as one."""

    @cached_property
    def words(self) -> tuple[str, ...]:
        """What the model says at the end, as it streams."""
        return tuple(f"w{number:02d} " for number in range(self.length))

    @cached_property
    def text(self) -> str:
        """What the run ends with."""
        return "".join(self.words)

    @property
    def deltas(self) -> tuple[str, ...]:
        """What who writes by hand stores of the stream."""
        return (self.text,) if self.merged else self.words

    @property
    def calls_a_run(self) -> int:
        """How often the tool is called."""
        return self.rounds * self.calls

    def asked(self, number: int) -> tuple[Call, ...]:
        """Return what the model asks for in a round, all at once; the first one is number 1."""
        cities = CITIES[: self.calls]
        return tuple(Call(f"call_{number}_{place}", {"city": city}) for place, city in enumerate(cities, 1))


W1 = Workload("w1", "B1", rounds=1, calls=1, length=40, merged=False)
W2 = Workload("w2", "B2", rounds=4, calls=4, length=400, merged=True)
WORKLOADS = {one.name: one for one in (W1, W2)}


def weather(city: str) -> dict[str, str | int]:
    """Do what the tool does: count that it happened, and answer."""
    global tool_calls
    tool_calls += 1
    return {"city": city, "sky": "sunny", "degrees": 21}
