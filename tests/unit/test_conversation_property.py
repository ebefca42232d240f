"""Whatever is saved in a thread: a model is shown each call with its result behind it, and no other. No database."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentcore.engine.steps.conversation import shown
from agentcore.models.message import compose
from agentcore.values.ids import uuid7
from agentcore.values.parts import TextPart, ToolCallPart, ToolResultPart

pytestmark = pytest.mark.once
every = settings(
    derandomize=True, database=None, deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow]
)

RUNS = [None, uuid7(), uuid7()]
IDS = st.sampled_from(["c1", "c2", "a b", "a-b", "a/b"])
PARTS = st.one_of(
    st.just(TextPart("x")),
    st.builds(ToolCallPart, IDS, st.sampled_from(["look", "l k"])),
    st.builds(ToolResultPart, IDS, st.just("look"), st.just("succeeded")),
)
ROWS = st.tuples(
    st.integers(0, 5),
    st.sampled_from(RUNS),
    st.sampled_from(["agent", "tool", "user"]),
    st.lists(PARTS, min_size=1, max_size=3),
)


def saved(rows: list[Any]) -> list[Any]:
    """The messages of a thread in their order, each as (turn, run, author, parts)."""
    thread = uuid7()
    return [
        compose(
            thread_id=thread,
            run_id=run,
            order=order,
            step_order=place,
            author_kind=author,
            author_name="n",
            content=tuple(content),
        )
        for place, (order, run, author, content) in enumerate(sorted(rows, key=lambda row: row[0]))
    ]


@every
@given(st.lists(ROWS, max_size=10), st.integers(0, 5), st.integers(1, 12))
def test_each_call_is_followed_by_its_result(rows: list[Any], order: int, recent: int) -> None:
    expected: list[str] = []
    for message in shown(saved(rows), order, recent):
        calls = [part.call_id for part in message.parts if isinstance(part, ToolCallPart)]
        results = [part.call_id for part in message.parts if isinstance(part, ToolResultPart)]
        assert message.parts and results == expected[: len(results)]
        assert bool(results) == bool(expected), "a result without its call, or a call without its result"
        expected = expected[len(results) :] or calls
    assert expected == []
