"""What a model says is kept in its order, shown without what is only for its provider, and given back to that one."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.test import Client
from django.urls import reverse

from agentcore import (
    SYSTEM,
    FilePart,
    ProviderCallPart,
    ProviderResultPart,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    Usage,
    tool,
)
from agentcore.exceptions import Invalid
from agentcore.models import Message, ToolCall
from agentcore.providers import (
    CallRequested,
    FileProduced,
    OutputDelta,
    ProviderCalled,
    ProviderReturned,
    ReasoningDelta,
    ReasoningEnded,
    SourceFound,
    StepFinished,
    TextDelta,
    TextEnded,
    UsageReported,
)
from agentcore.testing import run_until_idle
from tests.integration.room import Room, fresh, log, make
from tests.integration.says import Says

pytestmark = pytest.mark.django_db

GOLDEN = Path(__file__).parent / "golden"
SECRET = "sig-7f3a"
DONE = [TextDelta("Done."), StepFinished("stop")]
EVERYTHING = [
    ReasoningDelta("Let me "),
    ReasoningDelta("look."),
    ReasoningEnded({"signature": SECRET, "id": "rs_1"}),
    TextDelta("I look it up"),
    UsageReported(Usage(100, 3, details={"cache_read_tokens": 64})),
    TextDelta(" first."),
    TextEnded({"id": "msg_1"}),
    ProviderCalled("ws_1", "web_search", {"query": "parcel 7"}, {"id": "ws_1", "key": SECRET}),
    ProviderReturned("ws_1", "web_search", {"pages": 2}, {"encrypted": SECRET}),
    TextDelta("The carrier says "),
    SourceFound("Carrier", url="https://carrier.example/7", quote="on its way", start=0, end=16),
    TextDelta("it is on its way."),
    FileProduced("image/png", url="https://files.example/map.png", filename="map.png"),
    ReasoningEnded({"signature": SECRET}),
    CallRequested("toolu_1", "look", '{"what": "parcel"}', {"id": "fc_1", "signature": SECRET}),
    TextEnded({"signature": SECRET}),
    UsageReported(Usage(100, 40, details={"cache_read_tokens": 64, "reasoning_tokens": 12})),
    StepFinished("tool_use", {"response": "resp_1"}),
]


@tool(effect="pure")
def look(what: str) -> str:
    """Look at something."""
    return "seen"


def answer(room: Room) -> Message:
    """What the agent said first."""
    found: Message = Message.objects.filter(thread=room.thread, author_kind="agent").in_order()[0]
    return found


def compared(name: str, value: Any) -> tuple[Any, Any]:
    """The value and what the golden file says, with the ids and times of this run replaced."""
    text = json.dumps(value, indent=1, ensure_ascii=False, default=plain)
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", "<id>", text)
    text = re.sub(r"call_[0-9a-f]{32}", "<call>", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "<time>", text)
    path = GOLDEN / f"{name}.json"
    if os.environ.get("WRITE_GOLDEN"):
        path.write_text(text + "\n")
    return json.loads(text), json.loads(path.read_text())


def plain(value: Any) -> Any:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else str(value)


def played(*turns: list[Any], origin: str = "here", **options: Any) -> Room:
    room = make(Says(*turns, origin=origin), tools=[look], **options)
    assert room.play().status == "succeeded"
    return room


def test_everything_a_model_says_is_kept_in_its_order_and_given_back() -> None:
    room = played(EVERYTHING, DONE)
    said = answer(room)
    assert [type(part) for part in said.parts] == [
        ReasoningPart, TextPart, ProviderCallPart, ProviderResultPart, TextPart, SourcePart, FilePart, ReasoningPart,
        ToolCallPart, TextPart,
    ]  # fmt: skip
    assert said.text == "I look it up first.\n\nThe carrier says it is on its way."
    logged, golden = compared("stream", log(said.run))
    assert logged == golden
    stored, golden = compared("row", {"content": said.content, "provider_details": said.provider_details})
    assert stored == golden
    request, golden = compared("request", room.model.requests[1])
    assert request == golden


def test_what_a_provider_wants_back_is_shown_to_nobody(client: Client, admin_user: Any) -> None:
    room = played(EVERYTHING, DONE)
    assert SECRET in json.dumps(answer(room).provider_details)
    client.force_login(admin_user)
    pages = [
        client.get(reverse("agentcore:list_messages", args=[room.thread.pk])),
        client.get(reverse("agentcore:read_events", args=[answer(room).run_id])),
        client.get(f"/admin/agentcore/thread/{room.thread.pk}/change/"),
        client.get(f"/admin/agentcore/run/{answer(room).run_id}/change/"),
    ]
    assert [page.status_code for page in pages] == [200] * 4
    shown = [page.content.decode() for page in pages] + [str(log(answer(room).run)), str(answer(room).to_event())]
    assert not [text for text in shown if SECRET in text]
    assert "on its way" in shown[0] and "on its way" in shown[1]  # they do show the answer


def test_another_provider_address_or_account_is_not_given_them() -> None:
    ours, theirs = Says(EVERYTHING, DONE, DONE, origin="here:1"), Says(DONE, origin="here:2")
    asked = [ours, ours, theirs, ours]
    room = make(lambda about: asked.pop(0), tools=[look])
    for _ in range(3):
        assert room.play().status == "succeeded"
    (other,) = theirs.requests
    assert SECRET not in repr(other) and "I look it up first." in repr(other)
    assert all(not message.origin and message.provider_details is None for message in other.messages)
    assert SECRET in repr(ours.requests[1]) and SECRET in repr(ours.requests[2])


def test_a_model_without_an_origin_is_one_with_its_provider() -> None:
    model = Says(EVERYTHING, DONE, provider="acme")
    del model.origin
    room = make(model, tools=[look])
    room.play()
    assert answer(room).provider_details["origin"] == "acme"
    assert SECRET in repr(model.requests[1])


def test_details_that_cannot_be_kept_as_they_are_are_left_out_of_an_answer_that_stands(
    caplog: pytest.LogCaptureFixture,
) -> None:
    unkept = [{"signature": "a\x00b"}, {"signature": b"raw"}, ["a list"], {"deep": float("nan")}]
    said = [event for details in unkept for event in (TextDelta("So."), TextEnded(details))]
    with caplog.at_level(logging.WARNING, "agentcore.engine"):
        room = played([*said, TextDelta("Yes."), TextEnded({"id": "kept"}), StepFinished("stop")])
    details = [getattr(part, "provider_details", None) for part in answer(room).parts_with_details]
    assert details == [None, None, None, None, {"id": "kept"}]
    assert caplog.text.count("left out of") == 4 and "raw" not in caplog.text


@pytest.mark.parametrize("kind", ["text", "reasoning", "file"])
def test_nobody_but_a_model_writes_details(kind: str) -> None:
    given = {"text": {"text": "x"}, "reasoning": {"text": "x"}, "file": {"file_id": "7"}}[kind]
    room = make(Says(DONE))
    author = "agent" if kind == "reasoning" else "user"
    part = {"type": kind, **given, "provider_details": {"signature": SECRET}}
    saved = room.agent.messages.save(room.thread, [part], user=SYSTEM, author=author)
    assert fresh(saved).provider_details is None and SECRET not in json.dumps(fresh(saved).content)


# --- text ---------------------------------------------------------------------------------------------------------


def test_a_report_of_usage_or_a_source_in_the_middle_does_not_cut_a_sentence() -> None:
    words = ["The ", "sky ", "is ", "blue."]
    says = [event for word in words for event in (TextDelta(word), UsageReported(Usage(9, 1)), SourceFound("Atlas"))]
    room = played([*says, StepFinished("stop")])
    said = answer(room)
    assert said.text == "The sky is blue." and [part.type for part in said.parts] == ["text", *["source"] * 4]
    assert "".join(event["text"] for event in log(said.run) if event["type"] == "text.delta") == "The sky is blue."


def test_two_text_parts_are_two_paragraphs_in_the_log_too() -> None:
    room = played([TextDelta("One."), TextEnded(), TextDelta("T"), TextDelta("wo."), StepFinished("stop")])
    said = answer(room)
    assert said.text == "One.\n\nTwo."
    deltas = [(event["text"], event.get("begins", False)) for event in log(said.run) if event["type"] == "text.delta"]
    assert deltas == [("One.", False), ("Two.", True)]


def test_what_stands_between_two_texts_is_no_reason_for_an_empty_paragraph() -> None:
    room = played([TextEnded({"id": "0"}), TextDelta("One."), OutputDelta("{"), TextEnded(), StepFinished("stop")])
    assert answer(room).text == "One."


# --- what a provider does itself ----------------------------------------------------------------------------------


def test_a_tool_that_the_provider_ran_is_shown_and_never_run_here() -> None:
    searches = [ProviderCalled("ws", "look", {"what": "x"}), ProviderReturned("ws", "look", "seen there"), *DONE]
    room = played(searches)
    assert not ToolCall.objects.exists()
    kinds = [event["type"] for event in log(answer(room).run)]
    assert kinds.count("provider.call") == kinds.count("provider.result") == 1 and "tool.call" not in kinds


def test_a_large_result_of_a_provider_is_cut_where_it_is_shown(settings: LazySettings) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "RESULT_LIMIT": 1000}
    room = played([ProviderReturned("ws", "search", "x" * 5000), *DONE])
    result = answer(room).parts[0]
    assert (
        isinstance(result, ProviderResultPart) and len(str(result.result)) < 1200 and "5000 characters" in result.result
    )


@pytest.mark.parametrize(
    "event",
    [
        ProviderCalled("a", 5),  # type: ignore[arg-type]
        ProviderCalled("a", "b", b"raw"),
        ProviderReturned("a", "b", (item for item in "xy")),
        FileProduced("image/png"),
        FileProduced("image/png", b"x", "https://files.example/x"),
        FileProduced("image/png", url=7),  # type: ignore[arg-type]
        FileProduced("image/png", url="data:image/png;base64,iVBORw0="),
        FileProduced("image/png", url="/files/cat.png"),
        FileProduced("image/png", "text"),  # type: ignore[arg-type]
        FileProduced("image/png", b"x", 7),  # type: ignore[arg-type]
        SourceFound("a", quote=None),  # type: ignore[arg-type]
    ],
)
def test_an_event_of_another_shape_is_the_adapters_mistake(event: Any) -> None:
    room = make(Says([event, *DONE], DONE))
    run = room.play()
    assert (run.status, run.error_code) == ("failed", "provider_error")
    assert room.play().status == "succeeded"


# --- rows of before -----------------------------------------------------------------------------------------------


def test_rows_written_before_are_read_as_they_were() -> None:
    room = make(Says(DONE))
    run_until_idle(room.send("Hi"))
    stored = {"v": 1, "parts": [
        {"type": "reasoning", "text": "Hm."}, {"type": "text", "text": "Hi"},
        {"type": "source", "title": "Terms", "url": "https://example.com", "document": None},
        {"type": "file", "file_id": "7", "filename": "a.txt", "media_type": "text/plain"},
        {"type": "tool-call", "call_id": "c", "name": "look", "arguments": {}},
    ]}  # fmt: skip
    Message.objects.filter(author_kind="agent").update(content=stored)
    assert answer(room).parts == (
        ReasoningPart("Hm."), TextPart("Hi"), SourcePart("Terms", "https://example.com"),
        FilePart("7", "a.txt", "text/plain"), ToolCallPart("c", "look", {}),
    )  # fmt: skip


def test_a_file_is_one_of_the_applications_or_at_an_address() -> None:
    room = make(Says(DONE))
    for wrong in (
        {},
        {"file_id": "7", "url": "https://a.example"},
        {"url": "javascript:alert(1)"},
        {"url": "file:///etc"},
    ):
        with pytest.raises(Invalid, match=r"file_id or a url|begins with https"):
            room.agent.messages.save(room.thread, [{"type": "file", **wrong}], user=SYSTEM)
