"""Values no store takes: whatever a person, a model, a tool or a provider says, the run goes on, on both databases."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import pytest
from django.contrib.auth.models import AbstractUser
from django.test import Client
from pydantic import BaseModel

from agentcore import SYSTEM, ContextBlock, LoaderContext, ToolContext, ToolFailed, tool
from agentcore.declaration import registry
from agentcore.exceptions import Invalid, ModelError
from agentcore.models import Message, ToolCall
from agentcore.states import RunStatus, ToolCallStatus
from agentcore.testing import Turn, run_until_idle
from agentcore.values.jsontext import KEPT_DEPTH, MAX_DEPTH
from tests.integration.room import log, make, only_event

pytestmark = [pytest.mark.django_db, pytest.mark.covers("fault:D14")]


def nested(depth: int, value: Any = "bottom") -> Any:
    for _ in range(depth):
        value = [value]
    return value


TEXTS = {
    "nul": ("a\x00b", "a\ufffdb"),
    "surrogate": ("a\ud800b", "a\ufffdb"),
    "half at the end": ("ab\udc00", "ab\ufffd"),
}
VALUES: dict[str, tuple[Any, Any]] = {
    **TEXTS,
    "nul in a key": ({"k\x00": 1}, {"k\ufffd": 1}),
    "surrogate in a key": ({"k\ud800": 1}, {"k\ufffd": 1}),
    "nan": (math.nan, "nan"),
    "infinity": (math.inf, "inf"),
    "1e400": (float("1e400"), "inf"),
    "minus zero": (-0.0, 0),
    "huge": (2**64, 2**64),
    "5000 digits": (10**5000, hex(10**5000)),
}


texts = pytest.mark.parametrize(("raw", "kept"), TEXTS.values(), ids=TEXTS)
"""What is said, and what is kept of it."""
values = pytest.mark.parametrize(("raw", "kept"), VALUES.values(), ids=VALUES)
"""What is given, and what is kept of it."""


# --- what people write ------------------------------------------------------------------------------------------


@texts
def test_a_persons_message_and_its_title_key_and_metadata(raw: str, kept: str) -> None:
    room = make([Turn(text="ok")])
    thread = room.agent.threads.create(user=SYSTEM, title=raw, metadata={raw: raw})
    first = room.agent.runs.send(thread, raw, user=SYSTEM, key=raw, metadata={raw: [raw, math.nan]})
    assert room.agent.runs.send(thread, raw, user=SYSTEM, key=raw, metadata={raw: [raw, math.nan]}) == first
    run = run_until_idle(first)
    thread.refresh_from_db()
    assert (thread.title, thread.metadata) == (kept, {kept: kept})
    assert (run.status, run.key, run.metadata) == (RunStatus.SUCCEEDED, kept, {kept: [kept, "nan"]})
    assert Message.objects.get(thread=thread, order=0, step_order=0).text == kept


def test_a_title_too_long_for_its_column_is_refused() -> None:
    room = make([])
    with pytest.raises(Invalid, match="title has 500 characters"):
        room.agent.threads.create(user=SYSTEM, title="x" * 500)


@texts
def test_a_saved_message_and_its_authors_name(raw: str, kept: str) -> None:
    room, file = make([]), {"type": "file", "file_id": "1", "filename": raw, "media_type": raw}
    saved = room.agent.messages.save(room.thread, [file], user=SYSTEM, author="system", name=raw)
    saved.refresh_from_db()
    assert saved.author_name == kept
    assert saved.content["parts"][0]["filename"] == kept


@texts
def test_the_reasons_for_a_cancel_and_for_a_decision(raw: str, kept: str) -> None:
    @tool(needs_approval=True)
    def gated() -> str:
        """Need a person."""
        return "done"

    room = make([Turn(calls=[("gated", {})])], [gated])
    run = room.play()
    (approval,) = room.agent.tools.pending(user=SYSTEM)
    assert room.agent.tools.deny(approval, user=SYSTEM, digest=approval.digest, reason=raw).reason == kept
    canceled = room.agent.runs.cancel(run, user=SYSTEM, reason=raw * 500)
    assert canceled.cancel_reason == (kept * 500)[:500]
    assert only_event(run, "approval.response")["reason"] == kept


@texts
def test_a_message_over_http(user: AbstractUser, client: Client, raw: str, kept: str) -> None:
    thread = make([], user=user).thread
    client.force_login(user)
    body = json.dumps({"agent": "test", "text": raw, "key": raw})
    answer = client.post(f"/agent/threads/{thread.pk}/runs", body, content_type="application/json")
    # A lone surrogate is no JSON text, so the request that holds one may be refused; it must not fail.
    assert answer.status_code in ({201} if "\x00" in raw else {201, 400}), answer.content
    if answer.status_code == 201:
        assert Message.objects.get(thread=thread).text == kept


# --- what a model says ------------------------------------------------------------------------------------------


@texts
def test_a_models_text_and_reasoning(raw: str, kept: str) -> None:
    run = make([Turn(text=raw, reasoning=raw)]).play()
    assert run.status == RunStatus.SUCCEEDED
    assert only_event(run, "text.delta")["text"] == kept
    assert Message.objects.get(run=run).text == kept


@texts
def test_what_a_provider_says_when_it_fails(raw: str, kept: str) -> None:
    run = make([Turn(text="Half", error=ModelError(raw, code="auth"))]).play()
    assert (run.status, run.error_code, run.error_detail) == (RunStatus.FAILED, "auth", kept)
    assert run.steps.get().error_detail == kept


@pytest.fixture
def kept_arguments() -> list[Any]:
    """What the body of the tool `keep` was given."""
    return []


@pytest.fixture
def keep(kept_arguments: list[Any]) -> Any:
    @tool
    def keep(value: Any) -> str:
        """Keep a value."""
        kept_arguments.append(value)
        return "kept"

    return keep


@values
@pytest.mark.covers("fc:A2")
def test_what_a_model_gives_is_given_as_it_is_or_not_at_all(
    raw: Any, kept: Any, keep: Any, kept_arguments: list[Any]
) -> None:
    run = make([Turn(calls=[("keep", {"value": raw})]), Turn(text="ok")], [keep]).play()
    assert run.status == RunStatus.SUCCEEDED, run.error_message
    call = ToolCall.objects.get()
    assert call.arguments_json == {"value": kept}
    assert only_event(run, "tool.call")["arguments"] == {"value": kept}
    if raw == kept:
        assert (call.status, kept_arguments) == (ToolCallStatus.SUCCEEDED, [kept])
    else:
        assert (call.status, kept_arguments) == (ToolCallStatus.FAILED, [])
        assert "cannot be kept as they are" in call.error and "send it again" in call.error


@pytest.mark.covers("fc:A2")
@pytest.mark.parametrize("bottom", ["text", 1, {}])
@pytest.mark.parametrize("as_text", [True, False])
def test_arguments_nested_too_deep_are_not_run(
    keep: Any, kept_arguments: list[Any], bottom: Any, as_text: bool
) -> None:
    for depth, runs in ((KEPT_DEPTH - 1, True), (KEPT_DEPTH + 1, False), (64, False), (900, False)):
        kept_arguments.clear()
        sent: Any = {"value": nested(depth, bottom)}
        turns = [Turn(calls=[("keep", json.dumps(sent) if as_text else sent)]), Turn(text="ok")]
        with registry.isolated():
            run = make(turns, [keep]).play()
        assert run.status == RunStatus.SUCCEEDED, run.error_message
        call = ToolCall.objects.get(run=run)
        (part,) = [part for message in Message.objects.filter(run=run) for part in message.content["parts"]
                   if part["type"] == "tool-call"]  # fmt: skip
        assert part["arguments"] == call.arguments_json == only_event(run, "tool.call")["arguments"]
        assert kept_arguments == ([sent["value"]] if runs else [])
        assert (call.status == ToolCallStatus.SUCCEEDED) is runs
        assert runs or "nested deeper than" in call.error


@pytest.mark.covers("fc:A2")
def test_what_is_as_deep_as_may_be_is_shown_as_it_ran_in_an_event_that_is_cleaned(
    keep: Any, kept_arguments: list[Any]
) -> None:
    call = Turn(calls=[("keep", {"value": nested(KEPT_DEPTH, 1)})], text="\\u0000")
    run = make([call, Turn(text="ok")], [keep]).play()
    assert kept_arguments == [nested(KEPT_DEPTH, 1)]
    said = [event["message"] for event in log(run) if event["type"] == "message"]
    (part,) = [part for message in said for part in message["parts"] if part["type"] == "tool-call"]
    assert part["arguments"] == {"value": nested(KEPT_DEPTH, 1)}


@pytest.mark.covers("fc:A8")
def test_an_edit_as_deep_as_may_be_is_shown_as_it_ran(kept_arguments: list[Any]) -> None:
    @tool(needs_approval=True)
    def keep(value: Any) -> str:
        """Keep a value."""
        kept_arguments.append(value)
        return "kept"

    room = make([Turn(calls=[("keep", {"value": 1})]), Turn(text="ok")], [keep])
    run = room.play()
    (approval,) = room.agent.tools.pending(user=SYSTEM)
    edit = {"value": nested(KEPT_DEPTH, 1)}
    room.agent.tools.approve(approval, user=SYSTEM, digest=approval.digest, edited_arguments=edit)
    run = run_until_idle(run)
    assert kept_arguments == [edit["value"]]
    (part,) = [part for message in Message.objects.filter(run=run) for part in message.to_json()["parts"]
               if part["type"] == "tool-result"]  # fmt: skip
    assert part["edited"]["arguments"] == edit


@pytest.mark.parametrize("sent", ["", " \n", "null", " null ", None, "{}", {}], ids=repr)
def test_nothing_is_an_object_without_arguments(sent: Any) -> None:
    @tool
    def act() -> str:
        """Act."""
        return "acted"

    make([Turn(calls=[("act", sent)]), Turn(text="ok")], [act]).play()
    call = ToolCall.objects.get()
    assert (call.status, call.arguments_json, call.result_json) == (ToolCallStatus.SUCCEEDED, {}, "acted")


@pytest.mark.parametrize(
    "arguments",
    [
        '{"value": NaN}',
        '{"value": -Infinity}',
        '{"value": 1e400}',
        '{"value": ' + "9" * 5000 + "}",
        '{"value": ' + "[" * 20_000 + "]" * 20_000 + "}",
        '{"value": "\x00"',
        "not json",
        '["value"]',
        '"\ud800"',
    ],
    ids=["nan", "infinity", "1e400", "digits", "nesting", "cut off", "words", "list", "surrogate"],
)
def test_arguments_that_are_no_json_object_are_refused_and_the_model_is_told(arguments: str) -> None:
    @tool
    def keep(value: Any) -> str:
        """Keep a value."""
        raise AssertionError("it must not run")

    run = make([Turn(calls=[("keep", arguments)]), Turn(text="Sorry.")], [keep]).play()
    assert run.status == RunStatus.SUCCEEDED, run.error_message
    call = ToolCall.objects.get()
    assert call.status == ToolCallStatus.FAILED and "JSON" in call.error
    assert "sys." not in call.error, "a model is told nothing of Python"


@texts
def test_an_argument_and_a_tool_that_nobody_knows(raw: str, kept: str) -> None:
    @tool
    def keep(value: str = "") -> str:
        """Keep a value."""
        raise AssertionError("it must not run")

    calls = [("keep", {f"x{raw}": 1}), (raw, {raw: raw}), ("keep", {"value": [raw]})]
    run = make([Turn(calls=calls), Turn(text="Sorry.")], [keep]).play()
    assert run.status == RunStatus.SUCCEEDED, run.error_message
    first, second, third = ToolCall.objects.order_by("position")
    assert first.arguments_json == {f"x{kept}": 1} and "half a character" in first.error
    assert (second.name, second.arguments_json) == (kept, {kept: kept})
    assert {first.status, second.status, third.status} == {ToolCallStatus.FAILED}


@values
def test_a_structured_output(raw: Any, kept: Any) -> None:
    class Answer(BaseModel):
        value: Any

    run = make([Turn(output={"value": raw}), Turn(output={"value": "mended"})], output=Answer).play()
    said = kept if raw == kept else "mended"
    assert (run.status, run.output) == (RunStatus.SUCCEEDED, {"value": said}), run.error_message
    assert only_event(run, "output")["value"] == {"value": said}
    faults = [step.error_message for step in run.steps.order_by("number") if step.error_message]
    assert faults == [] if raw == kept else "cannot be kept as it is" in faults[0]


# --- what the application's code gives ----------------------------------------------------------------------------


@values
def test_a_tools_result_and_its_progress(raw: Any, kept: Any) -> None:
    @tool
    def give(ctx: ToolContext) -> Any:
        """Give a value."""
        ctx.progress(raw)
        return raw

    run = make([Turn(calls=[("give", {})]), Turn(text="ok")], [give]).play()
    assert run.status == RunStatus.SUCCEEDED, run.error_message
    call = ToolCall.objects.get()
    assert (call.status, call.result_json) == (ToolCallStatus.SUCCEEDED, kept)
    assert only_event(run, "tool.progress")["value"] == kept
    assert only_event(run, "tool.result")["result"] == kept


def test_a_result_nested_too_deep_is_cut() -> None:
    @tool
    def give() -> Any:
        """Give a value."""
        return nested(20_000)

    run = make([Turn(calls=[("give", {})]), Turn(text="ok")], [give]).play()
    assert run.status == RunStatus.SUCCEEDED, run.error_message
    assert ToolCall.objects.get().result.count("[") == MAX_DEPTH + 2  # and one in the mark of the cut


@texts
def test_what_a_tool_says_when_it_fails(raw: str, kept: str) -> None:
    @tool
    def fail() -> None:
        """Fail."""
        raise ToolFailed(raw)

    run = make([Turn(calls=[("fail", {})]), Turn(text="Sorry.")], [fail]).play()
    assert run.status == RunStatus.SUCCEEDED, run.error_message
    assert ToolCall.objects.get().error == kept


@texts
def test_a_context_block(raw: str, kept: str) -> None:
    def knowledge(ctx: LoaderContext) -> list[ContextBlock]:
        return [ContextBlock(raw, raw, {"from": raw, "score": math.nan})]

    room = make([Turn(text="ok")], context=[knowledge])
    run = room.play()
    assert room.model.requests[0].context[0].text == kept
    assert run.status == RunStatus.SUCCEEDED, run.error_message
    stored: Mapping[str, Any] = run.steps.get().context[0]
    assert (stored["name"], stored["text"], stored["metadata"]) == (kept, kept, {"from": kept, "score": "nan"})
