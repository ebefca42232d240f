"""Whatever a model says, and whenever it is taken: what streams, the whole log and the row make the same step."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentcore.declaration.model import OutputProduced
from agentcore.engine.steps.draft import Draft
from agentcore.exceptions import ModelError, RunError
from agentcore.providers import (
    CallRequested,
    DataFound,
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
from agentcore.values import events, parts
from agentcore.values.parts import FilePart, Part, ToolCallPart
from agentcore.values.usage import Usage

HERE = Path(__file__).resolve().parent
CLIENT = HERE.parents[1] / "agentcore" / "static" / "agentcore"
NODE = shutil.which("node")
pytestmark = [pytest.mark.once, pytest.mark.skipif(NODE is None, reason="Node is not installed")]
every = settings(
    derandomize=True, database=None, deadline=None, max_examples=200, suppress_health_check=list(HealthCheck)
)

Reduce = Callable[[dict[str, Any]], dict[str, Any]]
Stream = list[Any]
TAKE = "take"
"""Stands in a stream where the events that wait are taken into the log."""

TEXTS = st.one_of(
    st.sampled_from(
        ["", "a", " ", "\n\n", "\ud83d", "\ude00", "😀", "\ud83d\ud83d", "\x00", "é\ud83d", "\ude00x", '"\\', "\\u0000"]
    ),
    st.text(st.characters(exclude_categories=()), max_size=12),
)
MAYBE_TEXTS = st.none() | TEXTS
PLACES = st.one_of(st.none(), st.integers(-1, 9), st.sampled_from(["4", 4.5]))
DETAILS = st.sampled_from([None, None, {}, {"id": "x"}, {"n": [1, 2.5, {"ü": None}]}])
IDS = st.sampled_from(["c1", "c2"])
VALUES = st.sampled_from([None, 0, False, "", "x" * 30, {"a": [1]}, [None], 1.5, 10**30])
SPOKEN = st.one_of(
    st.builds(TextDelta, TEXTS),
    st.builds(ReasoningDelta, TEXTS),
    st.builds(OutputDelta, TEXTS),
    st.builds(TextEnded, DETAILS),
    st.builds(ReasoningEnded, DETAILS),
    st.just(TAKE),
)
PROVIDERS = st.one_of(
    st.builds(ProviderCalled, IDS, st.just("search"), VALUES, DETAILS),
    st.builds(ProviderReturned, IDS, st.just("search"), VALUES, DETAILS),
    st.builds(TextDelta, TEXTS),
)
FILES = st.one_of(
    st.builds(lambda name, details: FileProduced("image/png", b"x", "", name, details), IDS, DETAILS),
    st.builds(
        lambda name, details: FileProduced("image/png", url=f"https://x.example/{name}", provider_details=details),
        IDS,
        DETAILS,
    ),
)
ANYTHING = st.one_of(
    SPOKEN,
    SPOKEN,
    FILES,
    st.builds(SourceFound, MAYBE_TEXTS, MAYBE_TEXTS, MAYBE_TEXTS, TEXTS, PLACES, PLACES),
    st.builds(DataFound, TEXTS, VALUES),
    st.builds(CallRequested, IDS, st.just("look"), st.just("{}"), DETAILS),
    st.just(UsageReported(Usage(1, 1))),
    st.builds(OutputProduced, VALUES),
)


@pytest.fixture
def reduce() -> Iterator[Reduce]:
    """A function that has the browser's client reduce a log and a message."""
    command = [str(NODE), str(HERE / "reduce.mjs"), str(CLIENT)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        lines_in, lines_out = process.stdin, process.stdout

        def ask(said: dict[str, Any]) -> dict[str, Any]:
            lines_in.write(json.dumps(said) + "\n")
            lines_in.flush()
            answer: dict[str, Any] = json.loads(lines_out.readline())
            return answer

        yield ask
        lines_in.close()


def played(stream: Stream) -> dict[str, Any]:
    """The log of a step whose model says this, as JSON, and its message as the API shows it, if there is one."""
    draft, said = Draft(1), [events.StepStarted(1, "model", 1)]
    is_whole = True
    for event in stream:
        if event == TAKE:
            said += draft.take()
            continue
        try:
            draft.add(event)
        except (RunError, ModelError):
            is_whole = False
            break
    content, saved = finished(draft) if is_whole else (draft.parts, [])
    said += [*draft.take(), *saved]
    stored = parts.to_json(content)
    details = parts.details_to_json(content, "here")
    assert parts.to_json(parts.from_json(*json.loads(json.dumps([stored, details])))) == stored
    author = {"kind": "agent", "name": "test"}
    message = {"id": "m", "run": "r1", "order": 0, "step_order": 1, "author": author, "status": "complete", **stored}
    said += [events.Message(message, 1)] if content else []
    log = [json.loads(event.encode(seq, datetime.now(UTC))) for seq, event in enumerate(said)]
    return {"log": log, "message": message if content else None}


def finished(draft: Draft) -> tuple[list[Part], list[events.File]]:
    """The parts of an answer that was recorded, and the events of the files that were saved meanwhile."""
    content: list[Part] = []
    saved = []
    for place, item in enumerate(draft.content.items):
        match item:
            case CallRequested(_, name, _, details):
                content.append(ToolCallPart(f"call_{place}", name, {}, provider_details=details))
            case FileProduced():
                details = item.provider_details
                content.append(FilePart(f"f{place}", item.filename, item.media_type, provider_details=details))
                saved.append(events.File(1, item.media_type, f"f{place}", filename=item.filename or None))
            case _:
                content.append(item)
    return content, saved


def check(reduce: Reduce, stream: Stream) -> dict[str, Any]:
    """Assert that a page shows the same however it has learned of the step; returns what was played."""
    step = played([*stream, StepFinished("stop")])
    found = reduce(step)
    assert found["logged"] == found["stored"]
    for shown in found.values():
        shown["files"].sort(key=json.dumps)  # one that is bytes is shown when it is saved, at the end
    assert found["streamed"] == found["stored"]
    return step


@every
@given(st.lists(ANYTHING, max_size=14))
def test_an_answer_is_shown_as_it_is_kept(reduce: Reduce, stream: Stream) -> None:
    check(reduce, stream)


@every
@given(st.lists(PROVIDERS, max_size=6))
def test_tools_of_the_provider_are_shown_as_they_are_kept_in_whatever_order_they_come(
    reduce: Reduce, stream: Stream
) -> None:
    check(reduce, stream)


@every
@given(st.lists(ANYTHING, max_size=14), st.integers(1, 120))
def test_an_answer_is_shown_as_it_is_kept_at_whatever_byte_its_limit_is(
    reduce: Reduce, stream: Stream, limit: int
) -> None:
    with override_settings(AGENTCORE={"ANSWER_LIMIT": limit}):
        check(reduce, stream)


@every
@given(st.lists(SPOKEN | st.builds(TextDelta, st.text(min_size=20, max_size=90)), max_size=10))
def test_an_answer_is_shown_as_it_is_kept_where_its_events_are_split(reduce: Reduce, stream: Stream) -> None:
    with override_settings(AGENTCORE={"EVENT_LIMIT": 600}):
        log = check(reduce, stream)["log"]
    assert not any(event.get("cut") for event in log if event["type"] == "text.delta")
