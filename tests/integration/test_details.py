"""What a provider wants back is its own, counts as the answer, and nothing that was kept ends a thread."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import LazySettings
from pydantic import BaseModel

from agentcore import FilePart, SourcePart, TextPart
from agentcore.models import Message
from agentcore.providers import (
    OutputProduced,
    ProviderCalled,
    ProviderReturned,
    ReasoningDelta,
    ReasoningEnded,
    SourceFound,
    StepFinished,
    TextDelta,
    TextEnded,
)
from tests.integration.room import Room, make
from tests.integration.says import Says

pytestmark = pytest.mark.django_db

SECRET = "sig-7f3a"
DONE = [TextDelta("Done."), StepFinished("stop")]


def taking_turns(first: Says, second: Says, **options: Any) -> Room:
    """A room whose first run asks one model, and whose second asks the other."""
    models = [first, second]
    room = make(lambda about: models.pop(0), **options)
    for _ in range(2):
        assert room.play().status == "succeeded"
    return room


def test_what_a_model_of_no_provider_wants_back_is_kept_for_nobody() -> None:
    first, second = Says([ReasoningEnded({"s": SECRET}), *DONE], provider=""), Says(DONE, origin="there")
    taking_turns(first, second)
    assert SECRET not in repr(second.requests)
    assert not Message.objects.exclude(provider_details=None).exists()


def test_another_provider_is_sent_no_part_that_was_details_alone() -> None:
    said = [ReasoningEnded({"encrypted": "x"}), TextDelta("Yes."), TextEnded(), TextEnded({"signature": "y"})]
    second = Says(DONE, origin="there")
    taking_turns(Says([*said, StepFinished("stop")], origin="here"), second)
    assert [message.parts for message in second.requests[0].messages[1:-1]] == [(TextPart("Yes."),)]


class City(BaseModel):
    """A structured answer."""

    name: str


def test_another_provider_is_sent_no_message_that_was_details_alone() -> None:
    rome = [OutputProduced({"name": "Rome"}), StepFinished("stop")]
    second = Says(rome, origin="there")
    taking_turns(Says([ReasoningEnded({"encrypted": "x"}), *rome], origin="here"), second, output=City)
    assert [message.author for message in second.requests[0].messages] == ["user", "user"]


def test_a_message_whose_content_somebody_has_changed_is_given_back_without_details() -> None:
    room = make(Says([ReasoningDelta("My number is 7"), ReasoningEnded({"s": SECRET}), *DONE], DONE, origin="here"))
    run = room.play()
    Message.objects.filter(run=run).update(content={"v": 1, "parts": [{"type": "text", "text": "[removed]"}]})
    assert room.play().status == "succeeded"
    assert room.model.requests[1].messages[1].parts == (TextPart("[removed]"),)


@pytest.mark.parametrize(
    "said",
    [
        [TextDelta("Hi"), StepFinished("stop", {"blob": "x" * 2000})],
        [TextDelta("Hi"), ProviderCalled("x" * 2000, "web_search"), StepFinished("stop")],
        [TextDelta("Hi"), ProviderReturned("x" * 2000, "web_search"), StepFinished("stop")],
    ],
    ids=["details of the answer", "id of a call", "id of a result"],
)
def test_what_only_a_provider_reads_counts_as_the_answer_too(said: list[Any], settings: LazySettings) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "ANSWER_LIMIT": 1000}
    run = make(Says(said, origin="here")).play()
    assert (run.status, run.error_code) == ("failed", "answer_too_long")
    assert Message.objects.get(run=run).provider_details is None


@pytest.mark.parametrize("place", [("4", 9), (4.5, 9), (True, 9), (-1, 9), (9, 4), (4, None), (object(), [4])])
def test_a_source_at_a_place_that_is_none_is_kept_without_it(place: tuple[Any, Any]) -> None:
    source = SourceFound("Atlas", start=place[0], end=place[1])
    room = make(Says([TextDelta("Blue."), source, StepFinished("stop")], DONE))
    run = room.play()
    assert Message.objects.get(run=run).parts == (TextPart("Blue."), SourcePart("Atlas"))
    assert room.play().status == "succeeded"


def test_a_file_of_a_message_that_was_stored_otherwise_keeps_no_thread_from_going_on() -> None:
    """What is refused of a caller now may have been taken before: a stored message is read as it is."""
    room = make(Says(DONE, DONE))
    run = room.play()
    nowhere = {"type": "file", "file_id": "", "url": "gs://bucket/cat.png", "filename": "cat.png"}
    Message.objects.filter(run=run).update(content={"v": 1, "parts": [{"type": "text", "text": "Here."}, nowhere]})
    assert room.play().status == "succeeded"
    file = room.model.requests[1].messages[1].parts[1]
    assert isinstance(file, FilePart) and file.filename == "cat.png"
