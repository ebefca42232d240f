"""What a model asks for is checked before anything waits or runs: half a call, a wrong one, or none at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import LazySettings

from agentcore import Agent, Limits, tool
from agentcore.models import Approval, Run, Step, ToolCall
from agentcore.providers import CallRequested, StepFinished, TextDelta
from agentcore.testing import HttpModel, check_invariants
from agentcore.testing.faults.http_model import FunctionCall, Reply, asks, says
from agentcore.testing.faults.wire import DONE, chunk, fragment, sse, usage
from tests.faults.providers import thinking
from tests.integration.checker.crime import HAPPENED, act, gated
from tests.integration.room import log, make
from tests.testapp.scripts import Echo

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    HAPPENED.clear()
    yield
    assert check_invariants() == []


@tool(effect="pure")
def number_of(n: int) -> int:
    """Say a number."""
    return n


def told(model: HttpModel) -> list[str]:
    """What the model was told of its calls in the last request."""
    return [str(result["content"]) for result in model.requests[-1].results]


def calls(run: Run) -> list[tuple[str, str]]:
    return list(ToolCall.objects.filter(run=run).order_by("created_at", "position").values_list("name", "status"))


# --- M1: not JSON -----------------------------------------------------------------------------------------------


@pytest.mark.covers("fault:M1")
@pytest.mark.parametrize(
    "text", ['{"text": ', "{'text': 'x'}", "text=x", '{"text": "x"} and so on', '"x', '{"text": NaN}']
)
def test_arguments_that_are_not_json_are_sent_back_and_the_tool_does_not_run(text: str) -> None:
    with HttpModel(asks(FunctionCall("act", text)), asks(FunctionCall("act", {"text": "x"})), says("Done.")) as model:
        run = thinking(model, [act]).play()
    assert "cannot be read as JSON" in str(model.requests[1].results[0]["content"])
    assert (run.status, calls(run)) == ("succeeded", [("act", "failed"), ("act", "succeeded")])
    assert len(HAPPENED) == 1


@pytest.mark.covers("fault:M1")
@pytest.mark.parametrize("text", ["[]", "3", "true", '"text"'])
def test_arguments_that_are_no_object_are_sent_back(text: str) -> None:
    with HttpModel(asks(FunctionCall("act", text)), says("Sorry.")) as model:
        run = thinking(model, [act]).play()
    assert (run.status, calls(run), HAPPENED) == ("succeeded", [("act", "failed")], [])
    assert "must be a JSON object" in told(model)[0]


@pytest.mark.covers("fault:M1", "fault:M4")
def test_a_model_that_never_mends_its_call_ends_at_the_limit_of_steps() -> None:
    with HttpModel(script=lambda seen: asks(FunctionCall("act", '{"text": '))) as model:
        run = thinking(model, [act], limits=Limits(max_steps=5)).play()
    assert (run.status, run.error_code, len(model.requests)) == ("failed", "limit_steps", 5)
    assert HAPPENED == []


# --- M2: JSON, and wrong ------------------------------------------------------------------------------------------

WRONG: dict[str, Any] = {
    "nothing": {},
    "extra": {"text": "x", "also": 1},
    "type": {"text": {"a": 1}},
    "null": {"text": None},
    "list": {"text": ["x"]},
    "spelling": {"Text": "x"},
    "number": {"text": 5},
}


@pytest.mark.covers("fault:M2", "promise:P6")
@pytest.mark.parametrize("arguments", WRONG.values(), ids=WRONG)
def test_wrong_arguments_are_refused_before_anybody_is_asked_to_approve_them(arguments: dict[str, Any]) -> None:
    with HttpModel(asks(FunctionCall("gated", arguments)), says("Sorry.")) as model:
        run = thinking(model, [gated]).play()
    assert (run.status, calls(run)) == ("succeeded", [("gated", "failed")])
    assert "not valid" in told(model)[0]
    assert not Approval.objects.exists() and HAPPENED == []


@pytest.mark.covers("fault:M2", "promise:P6")
def test_a_name_that_stands_twice_is_refused_for_two_readers_may_take_another_one() -> None:
    with HttpModel(asks(FunctionCall("gated", '{"text": "a euro", "text": "a million"}')), says("Sorry.")) as model:
        run = thinking(model, [gated]).play()
    assert (run.status, calls(run)) == ("succeeded", [("gated", "failed")])
    assert not Approval.objects.exists() and HAPPENED == []


# --- M3: no such tool ---------------------------------------------------------------------------------------------


@tool
def forbidden() -> str:
    """Belong to another agent."""
    raise AssertionError("it ran")


@pytest.mark.covers("fault:M3")
@pytest.mark.parametrize(
    "name",
    [
        "__import__",
        "os.system",
        "eval",
        "tests.integration.checker.crime.act",
        "forbidden",
        "Act",
        "act ",
        "",
        "é" * 500,
    ],
)
def test_a_tool_the_agent_does_not_have_is_unknown_whatever_its_name(name: str) -> None:
    Agent(name="other", model=Echo(), tools=[forbidden])
    with HttpModel(asks(FunctionCall(name, {"text": "x"})), says("Sorry.")) as model:
        run = thinking(model, [act]).play()
    assert run.status == "succeeded" and [status for _, status in calls(run)] == ["failed"]
    assert "There is no tool called" in told(model)[0]
    assert HAPPENED == []


# --- M8: strange streams ------------------------------------------------------------------------------------------


@pytest.mark.covers("fault:M8")
def test_a_stream_that_ends_without_saying_why_is_asked_for_again() -> None:
    with HttpModel(says("Half a", finish=None), says("A whole answer.")) as model:
        run = thinking(model).play()
    assert run.status == "succeeded" and len(model.requests) == 2
    assert [event["type"] for event in log(run)].count("step.reset") == 1


@pytest.mark.covers("fault:M8")
def test_a_stream_that_ends_twice_ends_once() -> None:
    end = [sse(chunk({}, "stop")), sse(chunk({}, "stop")), sse(usage())]
    with HttpModel(Reply([sse(chunk({"content": "Done."})), *end, DONE, *end, DONE])) as model:
        run = thinking(model).play()
    assert run.status == "succeeded" and len(model.requests) == 1
    assert [event["type"] for event in log(run)].count("step.finished") == 1


@pytest.mark.covers("fault:M8")
@pytest.mark.parametrize("ids", [("same", "same"), ("", ""), ("a", "")], ids=["reused", "empty", "half"])
def test_ids_of_calls_are_the_engines_own(ids: tuple[str, str]) -> None:
    both = [FunctionCall("act", {"text": name}, call_id) for name, call_id in zip("ab", ids, strict=True)]
    with HttpModel(asks(*both), asks(FunctionCall("act", {"text": "c"}, ids[0])), says("Done.")) as model:
        run = thinking(model, [act]).play()
    assert run.status == "succeeded" and len(HAPPENED) == 3
    assert len({effect.call_id for effect in HAPPENED}) == 3
    asked = [call["id"] for message in model.requests[-1].body["messages"] for call in message.get("tool_calls", ())]
    answered = [result["tool_call_id"] for result in model.requests[-1].results]
    assert asked == answered and set(asked) == {effect.call_id for effect in HAPPENED}


@pytest.mark.covers("fault:M8")
def test_two_hundred_calls_in_a_turn_each_have_their_result(settings: LazySettings) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "LEASE_SECONDS": 60}  # here bodies and commits share one thread
    many = [FunctionCall("number_of", {"n": n}, f"c{n}") for n in range(200)]
    with HttpModel(asks(*many), says("Done.")) as model:
        run = thinking(model, [number_of]).play()
    assert run.status == "succeeded"
    assert calls(run) == [("number_of", "succeeded")] * 200
    assert len(model.requests[-1].results) == 200


# --- M9: not meant as a call --------------------------------------------------------------------------------------


@pytest.mark.covers("fault:M9", "fc:B3")
@pytest.mark.parametrize("text", ['{"text": "x"', '{"text": "x"}'], ids=["half", "whole"])
def test_a_call_that_was_cut_off_is_answered_and_never_run(text: str) -> None:
    cut = [sse(chunk({"content": "I will"})), sse(fragment(0, text, "act", "c1")), sse(chunk({}, "length")), DONE]
    with HttpModel(Reply(cut), says("Shorter.")) as model:
        run = thinking(model, [act]).play()
    assert (run.status, run.finish_reason, calls(run), HAPPENED) == ("succeeded", "stop", [("act", "failed")], [])
    assert [step.finish_reason for step in Step.objects.filter(run=run).order_by("number")] == ["length", "stop"]
    (told,) = model.requests[1].results
    assert "send it again, shorter" in told["content"]


@pytest.mark.covers("fault:M9", "fc:B3")
def test_a_call_in_a_filtered_answer_is_never_run_and_the_run_says_what_happened() -> None:
    cut = [sse(chunk({"content": "I will"})), sse(fragment(0, "{}", "act", "c1")), sse(chunk({}, "content_filter"))]
    with HttpModel(Reply([*cut, DONE])) as model:
        run = thinking(model, [act]).play()
    assert (run.status, run.error_code, run.finish_reason) == ("failed", "content_filter", "content_filter")
    assert (calls(run), HAPPENED) == ([], [])
    said = run.messages.get(author_kind="agent")
    assert (said.text, said.status, said.finish_reason) == ("I will", "failed", "content_filter")


@pytest.mark.covers("fault:M9", "fc:B3")
def test_an_adapter_that_passes_half_a_call_on_does_not_have_it_run() -> None:
    class Careless:
        name, provider = "careless", "tests"

        async def stream(self, request: Any) -> Any:
            if request.step > 1:
                yield TextDelta("I gave up.")
                yield StepFinished("end_turn")
                return
            yield TextDelta("I will")
            yield CallRequested("c1", "act", '{"text": "half a')
            yield StepFinished("max_tokens")

    run = make(Careless(), [act]).play()
    assert (run.status, run.finish_reason, calls(run), HAPPENED) == ("succeeded", "stop", [("act", "failed")], [])


@pytest.mark.covers("fault:M9", "fc:B3")
@pytest.mark.parametrize("finish", ["stop", "content_filter"])
def test_a_refusal_fails_the_run_with_a_code_of_its_own_and_keeps_its_words(finish: str) -> None:
    reply = Reply([sse(chunk({"refusal": "I cannot help with that."})), sse(chunk({}, finish)), DONE])
    with HttpModel(reply) as model:
        run = thinking(model, [act]).play()
    assert (run.status, run.error_code, run.finish_reason) == ("failed", "refused", "refusal")
    said = run.messages.get(author_kind="agent")
    assert (said.text, said.status, said.finish_reason) == ("I cannot help with that.", "failed", "refusal")
