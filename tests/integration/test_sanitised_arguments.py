"""Arguments and outputs that no store takes: what a model gives is given as it is kept, or not at all."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel

from agentcore import SYSTEM, tool
from agentcore.declaration import registry
from agentcore.models import Message, ToolCall
from agentcore.states import RunStatus, ToolCallStatus
from agentcore.testing import Turn, run_until_idle
from agentcore.values.jsontext import KEPT_DEPTH
from tests.integration.room import log, make, only_event
from tests.integration.unkept import nested, texts, values

pytestmark = [pytest.mark.django_db, pytest.mark.covers("fault:D14")]


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
