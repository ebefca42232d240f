"""A guard judges each model call before it is made: what it changes is sent, and what it refuses is not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from agentcore import SYSTEM, Agent, Guard, Refuse, RunContext, TextPart, tool
from agentcore.engine.runtime import Runtime
from agentcore.exceptions import ModelError
from agentcore.models import Run, Step, ToolCall
from agentcore.providers import (
    CallRequested,
    ModelMessage,
    ModelRequest,
    ReasoningDelta,
    ReasoningEnded,
    StepFinished,
    TextDelta,
    TextEnded,
)
from agentcore.services import execution
from agentcore.testing import Evidence, check_invariants
from agentcore.testing.faults.plans import armed
from tests.integration.room import (
    Died,
    Room,
    assert_ended_once,
    drive_as_worker,
    drive_to_the_end,
    fresh,
    lapse,
    log,
    make,
    only_event,
    types,
)
from tests.integration.says import Says

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _sound() -> Iterator[None]:
    """Every run is as the laws will have it afterwards."""
    yield
    assert [*check_invariants(list(Run.objects.values_list("pk", flat=True)), Evidence(calm=False))] == []


DONE = [TextDelta("Done."), StepFinished("stop")]
CALLS = [TextDelta("I look."), CallRequested("c1", "look", {}), StepFinished("tool_calls")]
NO = Refuse("off_topic", "This is about something else. Ask about your order.", "Topic: politics.")


@tool(effect="pure")
async def look() -> str:
    """Look."""
    return "seen"


class Judge:
    """A guard that does what it was made with, one after the other, and keeps the requests it was asked about."""

    def __init__(self, *verdicts: Any) -> None:
        self.verdicts = list(verdicts)
        self.asked: list[ModelRequest] = []
        self.about: list[RunContext] = []
        self.saw: list[list[str]] = []

    def __call__(self, request: ModelRequest, about: RunContext) -> Any:
        self.asked.append(request)
        self.about.append(about)
        self.saw.append(types(Run.objects.get(pk=about.run_id)))
        verdict = self.verdicts[len(self.asked) - 1] if len(self.asked) <= len(self.verdicts) else None
        return verdict(request) if callable(verdict) else verdict


def room_of(judge: Callable[..., Any], *turns: list[Any], **options: Any) -> Room:
    return make(Says(*turns), [look], guards=[Guard(before_model=judge)], **options)


def played(room: Room, text: str = "Go") -> Run:
    run = room.send(text)
    drive_as_worker(run)
    return fresh(run)


def saying(text: str) -> Callable[[ModelRequest], ModelRequest]:
    """Change the last message of a request."""

    def change(request: ModelRequest) -> ModelRequest:
        last = replace(request.messages[-1], parts=(TextPart(text),))
        return replace(request, messages=(*request.messages[:-1], last))

    return change


# --- refused ------------------------------------------------------------------------------------------------------


def test_a_refused_request_is_not_sent_and_the_run_ends_with_the_guards_code() -> None:
    judge = Judge(NO)
    room = room_of(judge, DONE)
    run = played(room)
    assert_ended_once(run, "failed")
    assert room.model.requests == [] and not Step.objects.filter(run=run).exists()
    assert (run.error_code, run.error_message, run.error_detail) == (NO.code, NO.message, NO.detail)
    error = only_event(run, "error")
    assert (error["code"], error["message"]) == (NO.code, NO.message) and NO.detail not in str(log(run))


def test_the_claim_is_written_before_a_guard_is_asked() -> None:
    judge = Judge()
    played(room_of(judge, CALLS, DONE))
    assert judge.saw[0][-1] == "run.started" and "tool.result" in judge.saw[1]


def test_the_first_guard_that_refuses_decides_and_each_judges_what_the_one_before_has_left() -> None:
    first, second, third = Judge(saying("one")), Judge(NO), Judge()
    guards = [Guard(before_model=judge) for judge in (first, second, third)]
    run = played(make(Says(DONE), guards=guards))
    assert run.error_code == NO.code and third.asked == []
    assert second.asked[0].messages[-1].parts == (TextPart("one"),)


# --- changed ------------------------------------------------------------------------------------------------------


def test_what_a_guard_changes_is_what_is_sent_for_this_call_only() -> None:
    judge = Judge(saying("My number is [removed]."))
    room = room_of(judge, DONE, DONE)
    played(room, "My number is 123.")
    assert room.model.requests[0].messages[-1].parts == (TextPart("My number is [removed]."),)
    played(room, "And?")
    assert room.model.requests[1].messages[0].parts == (TextPart("My number is 123."),)


def test_a_guard_may_change_instructions_tools_and_settings() -> None:
    changed = {"instructions": "Be brief.", "tools": (), "settings": {"temperature": 0}}
    room = room_of(Judge(lambda request: replace(request, **changed)), DONE)
    played(room)
    assert {name: getattr(room.model.requests[0], name) for name in changed} == changed


def test_each_call_of_a_model_is_judged_also_a_retry_and_after_tools() -> None:
    judge = Judge()
    room = room_of(judge, [ModelError("away", code="network", retry_after=0.01)], CALLS, DONE)
    assert played(room).status == "succeeded"
    assert [(about.step, len(asked.messages)) for asked, about in zip(judge.asked, judge.about, strict=True)] == [
        (1, 1),
        (1, 1),
        (3, 3),
    ]


def test_each_model_of_a_list_is_judged_with_what_it_would_be_sent() -> None:
    first, second = Says([ModelError("no", code="auth")], name="one"), Says(DONE, name="two")
    judge = Judge(None, saying("two"))
    run = make_with_models([first, second], judge)
    drive_as_worker(run)
    assert fresh(run).status == "succeeded" and len(judge.asked) == 2
    assert first.requests[0].messages[-1].parts == (TextPart("Go"),)
    assert second.requests[0].messages[-1].parts == (TextPart("two"),)


def test_a_refusal_of_the_second_model_ends_the_run() -> None:
    first, second = Says([ModelError("no", code="auth")], name="one"), Says(DONE, name="two")
    run = make_with_models([first, second], Judge(None, NO))
    drive_as_worker(run)
    assert fresh(run).error_code == NO.code and second.requests == []


def make_with_models(models: list[Any], judge: Judge) -> Run:
    agent = Agent(name="listed", model=models, guards=[Guard(before_model=judge)])
    return agent.runs.send(agent.threads.create(user=SYSTEM), "Go", user=SYSTEM)


@pytest.mark.parametrize("part", ["tool-call", "tool-result"])
def test_a_request_without_the_other_half_of_a_call_is_not_sent(part: str) -> None:
    def drop(request: ModelRequest) -> ModelRequest:
        left = [replace(m, parts=tuple(p for p in m.parts if p.type != part)) for m in request.messages]
        return replace(request, messages=tuple(message for message in left if message.parts))

    room = room_of(Judge(None, drop), CALLS, DONE)
    run = played(room)
    assert (run.status, run.error_code) == ("failed", "user_error") and "keep both" in run.error_detail
    assert len(room.model.requests) == 1


def test_a_request_without_both_halves_of_a_call_is_sent() -> None:
    room = room_of(Judge(None, lambda request: replace(request, messages=request.messages[:1])), CALLS, DONE)
    assert played(room).status == "succeeded" and len(room.model.requests[1].messages) == 1


@pytest.mark.parametrize("name", ["run_id", "agent", "step", "attempt"])
def test_a_guard_leaves_whose_request_it_is(name: str) -> None:
    run = played(room_of(Judge(lambda request: replace(request, **{name: None})), DONE))
    assert run.error_code == "user_error" and name in run.error_detail


SIGNED = [
    ReasoningDelta("Hm."),
    ReasoningEnded({"signature": "as it was"}),
    TextDelta("It is 123."),
    TextEnded({"id": "as it was"}),
    StepFinished("stop", {"conversation": "as it was"}),
]


def test_a_changed_message_goes_back_without_what_its_provider_kept_of_it() -> None:
    def change(request: ModelRequest) -> ModelRequest:
        prompt, answer, last = request.messages
        parts = tuple(replace(p, text="It is [removed].") if p.type == "text" else p for p in answer.parts)
        return replace(request, messages=(prompt, replace(answer, parts=parts), last))

    room = room_of(Judge(None, change), SIGNED, DONE)
    played(room)
    played(room, "And?")
    assert "It is [removed]." in str(room.model.requests[1]) and "as it was" not in str(room.model.requests[1])


def test_a_message_that_is_left_as_it_is_goes_back_with_its_signatures_but_for_what_names_others() -> None:
    room = room_of(Judge(None, saying("changed")), SIGNED, DONE)
    played(room)
    played(room, "And?")
    (answer,) = [message for message in room.model.requests[1].messages if message.author == "agent"]
    assert [part.provider_details for part in answer.parts] == [{"signature": "as it was"}, {"id": "as it was"}]
    assert answer.provider_details is None, "an answer as a whole may name the conversation that it ended"


# --- at fault -----------------------------------------------------------------------------------------------------


def _no_messages(request: ModelRequest) -> ModelRequest:
    return replace(request, messages=("Go",))  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [True, False, "no", {"messages": []}, _no_messages, ModelMessage("user", "", ())])
def test_a_verdict_that_is_none_ends_the_run_and_sends_nothing(given: Any) -> None:
    room = room_of(Judge(given), DONE)
    run = played(room)
    assert_ended_once(run, "failed")
    assert run.error_code == "user_error" and "ModelRequest" in run.error_detail.replace("ModelMessage", "ModelRequest")
    assert room.model.requests == []


def _raises(request: ModelRequest, about: RunContext) -> None:
    raise KeyError("secret")


def _hangs(request: ModelRequest, about: RunContext) -> None:
    time.sleep(1)


async def _hangs_async(request: ModelRequest, about: RunContext) -> None:
    await asyncio.sleep(30)


@pytest.mark.parametrize("judge", [_raises, _hangs, _hangs_async])
def test_a_guard_that_raises_or_is_late_ends_the_run_and_sends_nothing(judge: Any, settings: Any) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "TOOL_TIMEOUT": 0.2}
    room = room_of(judge, DONE)
    run = played(room)
    assert_ended_once(run, "failed")
    assert run.error_code == "guard_failed" and "secret" not in str(log(run)) and room.model.requests == []


def test_a_worker_that_dies_in_a_guard_has_sent_nothing_and_the_next_one_asks_again() -> None:
    Died.raised = False
    asked = []

    def judge(request: ModelRequest, about: RunContext) -> None:
        asked.append(about.attempt)
        if len(asked) == 1:
            raise Died

    room = room_of(judge, DONE)
    run = room.send()
    with armed(before_finish=Died.at_the_next_point):
        execution.drive(run.pk, Runtime("doomed", inline=True))
    assert Died.raised and room.model.requests == []
    lapse(run)
    assert drive_to_the_end(run).status == "succeeded"
    assert asked == [1, 2] and len(room.model.requests) == 1


def test_a_guard_that_changes_what_it_is_given_in_place_changes_it_for_this_call_only() -> None:
    def spoil(request: ModelRequest, about: RunContext) -> None:
        request.tools[0].parameters["properties"] = {"secret": {"type": "string"}}
        for message in request.messages:
            for part in message.parts:
                getattr(part, "arguments", {})["spoiled"] = True

    room = make(Says(CALLS, DONE, CALLS, DONE), tools=[look], guards=[Guard(before_model=spoil)])
    assert room.play().status == room.play().status == "succeeded"
    assert "secret" not in str(look.schema) and "secret" not in str(room.agent.definition.tool_specs)
    assert not [row for row in ToolCall.objects.all() if "spoiled" in row.arguments]
