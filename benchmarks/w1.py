"""The workload W1, as every subject runs it: the model asks for one tool, the tool answers, the model says 40 words.

Nothing here needs more than the standard library: the peers have an environment of their own.
"""

from __future__ import annotations

WORDS = tuple(f"w{number:02d} " for number in range(40))
TEXT = "".join(WORDS)
PROMPT = "What is the weather in Paris?"
TOOL = "weather"
ARGUMENTS = {"city": "Paris"}
CALL_ID = "call_1"

tool_calls = 0


def weather(city: str) -> str:
    """Do what the tool does: count that it happened, and answer."""
    global tool_calls
    tool_calls += 1
    return f"sunny in {city}"
