"""The content of a message: typed, versioned, and checked where it comes in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentcore.exceptions import Invalid
from agentcore.values import parts
from agentcore.values.parts import (
    Edited,
    FilePart,
    Part,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)

pytestmark = pytest.mark.once

ALL: tuple[Part, ...] = (
    TextPart("Hello"),
    ReasoningPart("Because."),
    FilePart("f1", "photo.png", "image/png"),
    SourcePart("Terms", url="https://example.com"),
    ToolCallPart("c1", "add", {"a": 1}),
    ToolResultPart("c1", "add", "succeeded", result={"sum": 2}),
)


def test_parts_survive_their_stored_form() -> None:
    stored = json.loads(json.dumps(parts.to_json(ALL)))
    assert stored["v"] == parts.VERSION
    assert parts.from_json(stored) == ALL


@pytest.mark.covers("dj:MOD-9")
def test_the_stored_form_of_version_1_is_read_as_it_was_written() -> None:
    stored = {"v": 1, "parts": [{"type": "text", "text": "Hi"}, {"type": "file", "file_id": "7", "filename": "a.txt",
              "media_type": "text/plain"}]}  # fmt: skip
    assert parts.from_json(stored) == (TextPart("Hi"), FilePart("7", "a.txt", "text/plain"))


@pytest.mark.covers("dj:MOD-9")
@pytest.mark.parametrize("version", [2, None, "1"])
def test_a_version_from_the_future_is_refused_by_name(version: Any) -> None:
    with pytest.raises(Invalid, match=f"version {version!r}"):
        parts.from_json({"v": version, "parts": []})


@pytest.mark.parametrize(
    ("bad", "names"),
    [
        ({"type": "text"}, "text"),
        ({"type": "text", "text": 5}, "text"),
        ({"type": "html", "text": "<b>"}, "0"),
        ({"text": "no type"}, "0"),
        ("just text", "0"),
        (None, "0"),
    ],
)
def test_a_part_nobody_knows_is_refused_with_its_place(bad: Any, names: str) -> None:
    with pytest.raises(Invalid, match=f"Message part .*{names}"):
        parts.parse([bad])


def test_stored_parts_are_clean() -> None:
    stored = parts.to_json([TextPart("a\x00\ud800"), ToolResultPart("c", "t", "succeeded", result=float("nan"))])
    assert stored["parts"][0]["text"] == "a\ufffd\ufffd"
    assert stored["parts"][1]["result"] == "NaN"
    json.dumps(stored, allow_nan=False, ensure_ascii=False).encode()


def test_the_text_of_a_message_is_its_text_parts() -> None:
    assert parts.text_of([TextPart("One."), ReasoningPart("hidden"), TextPart("Two.")]) == "One.\n\nTwo."
    assert parts.text_of([]) == ""


@pytest.mark.covers("fc:A8")
def test_a_result_says_what_ran_and_an_edit_in_another_shape_is_refused() -> None:
    edited: Edited = {"arguments": {"to": "alice"}, "by": "olga", "reason": "Left."}
    part = ToolResultPart("c", "mail", "failed", error="No.", edited=edited)
    (read,) = parts.from_json(parts.to_json([part]))
    assert read == part
    assert part.told() == {
        "status": "failed", "error": "No.", "arguments": {"to": "alice"}, "reason": "Left.",
        "note": "Not your arguments: olga approved this call with the ones given here.",
    }  # fmt: skip
    with pytest.raises(Invalid, match="edited"):
        parts.parse([{**vars(part), "edited": {"arguments": {}}}])
