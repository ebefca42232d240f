"""Nothing that a model, a tool or a person sends is unbounded: each has a limit, a code and a sentence."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from django.conf import LazySettings
from django.test import Client
from django.urls import reverse

from agentcore import SYSTEM, ContextBlock, ToolContext, tool
from agentcore.admin import show
from agentcore.exceptions import Invalid, TooLarge
from agentcore.models import Message, ToolCall
from agentcore.providers import (
    CallRequested,
    DataFound,
    ModelEvent,
    ModelRequest,
    OutputDelta,
    ReasoningDelta,
    SourceFound,
    StepFinished,
    TextDelta,
)
from agentcore.services import messages
from agentcore.streams.models import Record
from tests.integration.room import log, make

pytestmark = pytest.mark.django_db
LIMIT = 20_000


@pytest.fixture(autouse=True)
def _small(settings: LazySettings) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "ANSWER_LIMIT": LIMIT, "ARGUMENTS_LIMIT": 5000, "CALLS_LIMIT": 10}


@tool(effect="pure")
def act(text: str) -> str:
    """Act."""
    return text[:10]


class Floods:
    """Sends one event after another for ever, and notes when it is closed."""

    name, provider = "floods", "tests"

    def __init__(self, event: ModelEvent) -> None:
        self.event = event
        self.sent = 0
        self.closed = False

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        try:
            while True:
                self.sent += 1
                yield self.event
        finally:
            self.closed = True


FLOODS = {
    "text": TextDelta("x" * 700),
    "wide text": TextDelta("\x01" * 700),
    "one delta": TextDelta("x" * 5_000_000),
    "reasoning": ReasoningDelta("é" * 700),
    "output": OutputDelta("x" * 700),
    "sources": SourceFound("A title", url="https://example.com/"),
    "data": DataFound("chart", {"points": [1] * 100}),
}


@pytest.mark.covers("fc:B9")
@pytest.mark.parametrize("event", FLOODS.values(), ids=FLOODS)
def test_an_answer_that_is_too_long_is_broken_off_and_what_fits_is_kept(event: ModelEvent) -> None:
    model = Floods(event)
    run = make(model).play()
    assert (run.status, run.error_code, model.closed) == ("failed", "answer_too_long", True)
    assert "Ask for less" in run.error_message and "ANSWER_LIMIT" in run.error_detail
    stored = sum(len(bytes(data)) for data in Record.objects.values_list("data", flat=True))
    assert stored < LIMIT * 20
    if isinstance(event, TextDelta):
        kept = run.messages.get(author_kind="agent")
        assert kept.status == "failed" and LIMIT / 8 < len(json.dumps(kept.text, ensure_ascii=False)) <= LIMIT + 2


@pytest.mark.covers("fc:B9")
def test_more_calls_than_an_answer_may_ask_for_end_the_run() -> None:
    run = make(Floods(CallRequested("c", "act", "{}")), [act]).play()
    assert (run.status, run.error_code) == ("failed", "too_many_calls")
    assert not ToolCall.objects.filter(run=run).exists()


class AsksAndSaysSo:
    """Asks for one call with the arguments it is given, and says then that it is done."""

    name, provider = "asks", "tests"

    def __init__(self, arguments: Any) -> None:
        self.arguments = arguments

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        if request.step == 1:
            yield CallRequested("c", "act", self.arguments)
            yield StepFinished("tool_calls")
            return
        yield TextDelta("Done.")
        yield StepFinished("stop")


@pytest.mark.covers("fc:B9")
@pytest.mark.parametrize("as_text", [True, False])
def test_arguments_of_three_megabytes_are_a_fault_of_the_model_and_stored_in_part(as_text: bool) -> None:
    arguments = {"text": "x" * 3_000_000}
    run = make(AsksAndSaysSo(json.dumps(arguments) if as_text else arguments), [act]).play()
    assert run.status == "succeeded"
    call = ToolCall.objects.get(run=run)
    assert call.status == "failed" and "send it again, shorter" in call.error and len(call.arguments) < 3000
    assert max(len(bytes(data)) for data in Record.objects.values_list("data", flat=True)) < 10_000


@pytest.mark.covers("fc:B9")
def test_a_delta_that_no_frame_carries_is_split(settings: LazySettings) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "EVENT_LIMIT": 2000}

    class Once(Floods):
        async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
            yield TextDelta("0123456789" * 500)
            yield StepFinished("stop")

    run = make(Once(TextDelta(""))).play()
    assert run.status == "succeeded"
    deltas = [event["text"] for event in log(run) if event["type"] == "text.delta"]
    assert len(deltas) > 1 and "".join(deltas) == "0123456789" * 500
    sizes = [len(bytes(data)) for data in Record.objects.values_list("data", flat=True)]
    assert max(sizes) <= 2000
    assert [event["cut"] for event in log(run) if event["type"] == "message"] == [True]


@pytest.mark.covers("fc:B9")
def test_what_a_tool_reports_meanwhile_is_cut(settings: LazySettings) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "RESULT_LIMIT": 1000}

    @tool(name="act", effect="pure")
    def reports(ctx: ToolContext, text: str) -> str:
        """Report."""
        ctx.progress("x" * 1_000_000)
        return "done"

    run = make(AsksAndSaysSo({"text": "a"}), [reports]).play()
    (event,) = [event for event in log(run) if event["type"] == "tool.progress"]
    assert run.status == "succeeded" and len(event["value"]) < 1200 and "truncated" in event["value"]


@pytest.mark.covers("fc:B9")
def test_context_that_is_too_much_fails_the_run_with_a_code(settings: LazySettings) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "CONTEXT_LIMIT": 100}
    run = make(Floods(TextDelta("")), context=[lambda about: [ContextBlock("file", "x" * 200)]]).play()
    assert (run.status, run.error_code) == ("failed", "context_too_large")


@pytest.mark.covers("fc:B9")
def test_a_message_of_a_megabyte_is_refused_with_a_sentence(user: Any, client: Client) -> None:
    room = make([], user=user)
    client.force_login(user)
    body = {"agent": "test", "text": "x" * 1_000_000}
    answer = client.post(
        reverse("agentcore:send", args=[room.thread.pk]), json.dumps(body), content_type="application/json"
    )
    assert answer.status_code == 413
    problem = answer.json()
    assert problem["code"] == "too_large" and "the limit is 200000" in problem["detail"] and problem["id"]
    assert not Message.objects.exists()


@pytest.mark.covers("fc:B9")
@pytest.mark.parametrize(
    "content",
    [[{"type": "text", "text": "\x01" * 50_000}], [{"type": "file", "file_id": "1", "filename": "x" * 300_000,
      "media_type": "text/plain"}], [{"type": "text", "text": "a"}] * 20_000],
    ids=["wide", "a name", "many parts"],
)  # fmt: skip
def test_a_message_is_measured_as_it_is_stored(content: Any) -> None:
    room = make([])
    with pytest.raises(TooLarge):
        room.agent.messages.save(room.thread, content, user=SYSTEM)


@pytest.mark.covers("fc:B9")
def test_metadata_titles_and_names_have_their_limits() -> None:
    room = make([])
    with pytest.raises(TooLarge, match="metadata"):
        room.agent.threads.create(user=SYSTEM, metadata={"x": "y" * 30_000})
    with pytest.raises(TooLarge, match="metadata"):
        room.send(metadata={"x": "y" * 30_000})
    with pytest.raises(Invalid, match="title"):
        room.agent.threads.create(user=SYSTEM, title="x" * 201)
    with pytest.raises(Invalid, match="name"):
        room.agent.messages.save(room.thread, "Hi", user=SYSTEM, name="x" * 151)


@pytest.mark.covers("fc:B9")
def test_a_page_of_messages_is_bounded_by_bytes_too(settings: LazySettings) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "PAGE_LIMIT": 20_000}
    room = make([])
    for number in range(10):
        room.agent.messages.save(room.thread, str(number) * 4000, user=SYSTEM)
    room.agent.messages.save(room.thread, "x" * 50_000, user=SYSTEM)
    seen: list[str] = []
    before, pages = None, 0
    while True:
        page = messages.list_(room.thread, user=SYSTEM, before=before)
        assert sum(len(item.text) for item in page.messages) < 20_000 or len(page.messages) == 1
        seen = [item.text[0] for item in page.messages] + seen
        pages += 1
        if page.before is None:
            break
        before = page.before
    assert seen == [*"0123456789", "x"] and pages == 6


@pytest.mark.covers("fc:B9")
def test_the_admin_formats_nothing_that_it_does_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    seen = show._seen
    monkeypatch.setattr(show, "_seen", lambda text: looked.append(len(text)) or seen(text))
    value = {"text": ["x" * 1000] * 5000}
    assert len(show.brief_value(value)) < show.LONGEST + 100
    assert looked == [show.LONGEST]
    assert len(show.brief("\u202e" * 1_000_000)) < show.LONGEST * 10
