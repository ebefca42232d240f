"""A character that a provider sends in two halves is one, however the halves are flushed."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import LazySettings

from agentcore.engine.steps.draft import Draft
from agentcore.exceptions import RunError
from agentcore.providers import DataFound, OutputDelta, ReasoningDelta, StepFinished, TextDelta
from agentcore.values import events, jsontext

pytestmark = [pytest.mark.once, pytest.mark.covers("fault:D14")]
HIGH, LOW = "\ud83d", "\ude00"
KINDS = [TextDelta, ReasoningDelta, OutputDelta]


def flushed(draft: Draft, *said: Any) -> str:
    """What the log has of it, where each piece is flushed as it comes."""
    found = []
    for event in said:
        draft.add(event)
        found += [item.text for item in draft.take() if hasattr(item, "text")]
    return "".join(found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        (["a", HIGH, LOW, "b"], "a😀b"),
        (["a" + HIGH, LOW + "b"], "a😀b"),
        ([HIGH, LOW], "😀"),
        ([HIGH, "b"], "�b"),
        ([LOW, HIGH], "��"),
        ([HIGH, HIGH, LOW], "�😀"),
        (["a" + HIGH], "a�"),
        ([HIGH], "�"),
        ([HIGH, "", LOW], "😀"),
        (["a", LOW], "a�"),
        (["👩", "‍👦"], "👩‍👦"),
    ],
)
def test_the_halves_are_joined_and_a_lone_one_is_marked(kind: Any, pieces: list[str], said: str) -> None:
    draft = Draft(0)
    assert flushed(draft, *[kind(piece) for piece in pieces], StepFinished("stop")) == said
    if kind is not OutputDelta:
        (part,) = draft.parts
        assert part.text == said


def test_a_half_belongs_to_its_own_part() -> None:
    draft = Draft(0)
    said = [TextDelta("a" + HIGH), ReasoningDelta(LOW), DataFound("x", 1), TextDelta(LOW), StepFinished("stop")]
    assert flushed(draft, *said) == "a���"
    assert [part.text for part in draft.parts] == ["a�", "�", "�"]


def test_a_half_alone_is_nothing_to_send_yet() -> None:
    draft = Draft(0)
    draft.add(TextDelta(HIGH))
    assert draft.seconds_until_due() is None and draft.take() == []
    draft.add(TextDelta(LOW))
    assert draft.seconds_until_due() == 0.0
    assert draft.take() == [events.TextDelta(0, "😀")]


def test_halves_count_as_what_they_become(settings: LazySettings) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "ANSWER_LIMIT": 1000}
    draft = Draft(1)
    with pytest.raises(RunError, match="too long"):
        for _ in range(1000):
            draft.add(TextDelta(HIGH))
            draft.add(ReasoningDelta(HIGH))
    texts = [part.text for part in draft.parts]
    assert texts and sum(jsontext.size(text) for text in texts) <= 1000


def test_a_half_that_stays_alone_is_due_at_once() -> None:
    draft = Draft(1)
    draft.add(TextDelta(HIGH))
    assert draft.seconds_until_due() is None
    draft.add(ReasoningDelta(HIGH))
    assert draft.seconds_until_due() == 0
