"""Values no store takes: whatever a person, a model, a tool or a provider says, the run goes on, on both databases."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import pytest
from django.contrib.auth.models import AbstractUser
from django.test import Client

from agentcore import SYSTEM, ContextBlock, RunContext, ToolContext, ToolFailed, tool
from agentcore.exceptions import Invalid, ModelError
from agentcore.models import Message, ToolCall
from agentcore.states import RunStatus, ToolCallStatus
from agentcore.testing import Turn, run_until_idle
from agentcore.values.jsontext import MAX_DEPTH
from tests.integration.room import make, only_event
from tests.integration.unkept import nested, texts, values

pytestmark = [pytest.mark.django_db, pytest.mark.covers("fault:D14")]


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
    assert (run.status, run.key, run.metadata) == (RunStatus.SUCCEEDED, kept, {kept: [kept, "NaN"]})
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
    def knowledge(ctx: RunContext) -> list[ContextBlock]:
        return [ContextBlock(raw, raw, {"from": raw, "score": math.nan})]

    room = make([Turn(text="ok")], context=[knowledge])
    run = room.play()
    assert room.model.requests[0].context[0].text == kept
    assert run.status == RunStatus.SUCCEEDED, run.error_message
    stored: Mapping[str, Any] = run.steps.get().context[0]
    assert (stored["name"], stored["text"], stored["metadata"]) == (kept, kept, {"from": kept, "score": "NaN"})
