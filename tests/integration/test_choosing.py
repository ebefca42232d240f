"""Models, tools and settings are chosen by run: for each step, by functions that are told which one it is."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from pydantic import BaseModel

from agentcore import RunContext, Tool, ToolSource, tool
from agentcore.declaration.conversion import Conversion
from agentcore.exceptions import ModelError, UserError
from agentcore.models import Message, Step, ToolCall
from agentcore.providers import CallRequested, OutputProduced, StepFinished, TextDelta, UsageReported
from agentcore.testing import run_until_idle
from agentcore.testing.faults.plans import armed
from agentcore.values.usage import Usage
from tests.integration.room import approve, drive_as_worker, fresh, make, models_of
from tests.integration.says import Says

pytestmark = pytest.mark.django_db

DONE = [TextDelta("Done."), StepFinished("stop")]
DOWN = [ModelError("503", code="overloaded")]


@tool(effect="pure")
def look(what: str) -> str:
    """Look at something."""
    return "seen"


@tool(needs_approval=True)
def pay(euros: int) -> str:
    """Pay."""
    PAID.append(euros)
    return "paid"


PAID: list[int] = []


# --- chosen by run ------------------------------------------------------------------------------------------------


def test_what_chooses_is_told_the_run_its_step_and_its_attempt(django_user_model: Any) -> None:
    ada = django_user_model.objects.create_user("ada")
    told: list[RunContext] = []
    model = Says([CallRequested("c", "look", {"what": "x"}), StepFinished("tool_calls")], DONE)

    def choose(about: RunContext) -> Any:
        told.append(about)
        return model

    room = make(choose, tools=[look], user=ada)
    run = run_until_idle(room.send("Hi", user=ada, metadata={"tenant": "acme"}))
    assert run.status == "succeeded"
    assert [(about.step, about.attempt) for about in told] == [(1, 1), (3, 1)]
    assert {(about.user, about.prompt) for about in told} == {(ada, "Hi")}
    assert {(about.run_id, about.thread_id, about.agent, about.metadata["tenant"]) for about in told} == {
        (run.pk, room.thread.pk, "test", "acme")
    }


def test_a_function_may_choose_several_models() -> None:
    first, second = Says(DOWN, name="first"), Says(DONE, name="second")
    run = make(lambda about: [first, second]).play()
    assert [name for name, _, _ in models_of(run)] == ["first", "second"]


@pytest.mark.parametrize("wrong", [None, [], 7, "gpt-5", [None]])
def test_a_choice_that_is_no_model_ends_the_run_and_tells_operators(wrong: Any) -> None:
    run = make(lambda about: wrong).play()
    assert (run.status, run.error_code) == ("failed", "user_error")
    assert "Agent test: the model, which" in run.error_detail


def test_a_named_model_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "agentcore.providers.pydantic_ai", None)
    run = make(("openai:gpt-5",)).play()
    assert (run.status, run.error_code) == ("failed", "model_not_configured")
    assert 'pip install "django-agentcore[pydantic-ai]"' in run.error_detail and "pip" not in run.error_message


@pytest.mark.parametrize("order", [lambda *models: models, lambda *models: models[::-1]], ids=["first", "last"])
def test_a_named_model_that_cannot_be_used_here_is_left_out_of_a_list(
    order: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "agentcore.providers.pydantic_ai", None)
    run = make(order("openai:gpt-5", Says(DONE))).play()
    assert run.status == "succeeded" and len(models_of(run)) == 1
    assert "pip install" in caplog.text


@pytest.mark.parametrize("given", [{"temperature": 0.5}, lambda about: {"temperature": about.metadata["heat"]}])
def test_settings_reach_the_model(given: Any) -> None:
    room = make(Says(DONE), model_settings=given)
    run_until_idle(room.send("Hi", metadata={"heat": 0.5}))
    assert room.model.requests[0].settings == {"temperature": 0.5}


# --- tools by run -------------------------------------------------------------------------------------------------

ASKS_TO_PAY = [CallRequested("c", "pay", {"euros": 5}), StepFinished("tool_calls")]


def test_tools_are_chosen_by_run_and_recorded_with_the_step() -> None:
    source = ToolSource(lambda about: [pay] if about.metadata.get("may_pay") else [])
    room = make(Says(DONE, DONE), tools=[look, source])
    runs = [run_until_idle(room.send("Hi", metadata=metadata)) for metadata in ({}, {"may_pay": True})]
    assert [[spec.name for spec in request.tools] for request in room.model.requests] == [["look"], ["look", "pay"]]
    assert [Step.objects.get(run=run).tools for run in runs] == [["look"], ["look", "pay"]]


def test_a_step_of_an_agent_with_the_same_tools_for_all_records_none() -> None:
    run = make(Says(DONE), tools=[look]).play()
    assert Step.objects.get(run=run).tools == []


def test_a_call_that_was_approved_runs_by_the_tool_of_then() -> None:
    PAID.clear()
    room = make(Says(ASKS_TO_PAY, DONE), tools=[ToolSource(lambda about: [pay])])
    run = room.play()
    assert run.status == "waiting"
    approve(run)
    assert run_until_idle(run).status == "succeeded" and PAID == [5]


def test_a_tool_that_its_source_has_not_any_more_is_not_run() -> None:
    PAID.clear()
    given = [pay]
    room = make(Says(ASKS_TO_PAY, DONE), tools=[ToolSource(lambda about: list(given))])
    run = room.play()
    given.clear()
    approve(run)
    assert run_until_idle(run).status == "succeeded" and PAID == []
    assert "not there any more" in ToolCall.objects.get(run=run).error


class Seen(BaseModel):
    """A structured answer."""

    what: str


ASKS_TO_LOOK = [CallRequested("c", "look", {"what": "x"}), StepFinished("tool_calls")]


def test_a_tool_that_was_offered_for_one_step_runs_when_that_step_has_asked_for_it() -> None:
    source = ToolSource(lambda about: [look] if about.step == 1 else [])
    run = make(Says(ASKS_TO_LOOK, DONE), tools=[source]).play()
    assert run.tool_calls.get().status == "succeeded"


def test_a_source_is_asked_once_for_what_a_model_is_offered_and_what_runs() -> None:
    asked: list[int] = []
    source = ToolSource(lambda about: asked.append(about.step) or [look])
    make(Says(ASKS_TO_LOOK, DONE), tools=[source]).play()
    assert asked == [1, 3]


@pytest.mark.django_db(transaction=True)
def test_a_source_is_asked_again_where_somebody_decides_before_the_run_waits() -> None:
    PAID.clear()
    given = [pay]
    run = make(Says(ASKS_TO_PAY, DONE), tools=[ToolSource(lambda about: list(given))]).send()

    def decide() -> None:
        given.clear()
        approve(run)

    with armed(before_suspend=sync_to_async(decide)):
        drive_as_worker(run)
    assert fresh(run).status == "succeeded" and PAID == []


def test_a_source_is_asked_again_for_an_answer_that_is_to_be_mended() -> None:
    asked: list[int] = []
    source = ToolSource(lambda about: asked.append(about.step) or [look])
    wrong, right = ([OutputProduced(value), StepFinished("stop")] for value in ({}, {"what": "x"}))
    assert make(Says(wrong, right), tools=[source], output=Seen).play().status == "succeeded"
    assert asked == [1, 2]


def test_the_schema_of_an_output_is_made_once_though_tools_are_chosen_for_each_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Found(Seen):
        """One that no other test has."""

    made: list[str] = []
    really = Conversion.to

    def to(hint: Any, what: str) -> Conversion:
        made.append(what)
        return really(hint, what)

    monkeypatch.setattr(Conversion, "to", to)
    answer = [OutputProduced({"what": "x"}), StepFinished("stop")]
    run = make(Says(ASKS_TO_LOOK, answer), tools=[ToolSource(lambda about: [look])], output=Found).play()
    assert run.status == "succeeded" and made == ["Agent test, output Found"]


async def _given(about: RunContext) -> list[Tool]:
    return [look]


def test_a_source_may_be_awaited() -> None:
    room = make(Says(DONE), tools=[ToolSource(_given)])
    room.play()
    assert [spec.name for spec in room.model.requests[0].tools] == ["look"]


@pytest.mark.parametrize(
    ("given", "says"), [(5, "write a list of tools"), ([5], "which is no tool"), ([look], "two tools")]
)
def test_a_source_that_gives_something_else_ends_the_run_and_tells_operators(given: Any, says: str) -> None:
    run = make(Says(), tools=[look, ToolSource(lambda about: given)]).play()
    assert (run.status, run.error_code) == ("failed", "user_error") and says in run.error_detail


def test_a_source_that_fails_ends_the_run_with_a_code() -> None:
    def fails(about: RunContext) -> list[Tool]:
        raise RuntimeError("away")

    run = make(Says(), tools=[ToolSource(fails)]).play()
    assert (run.status, run.error_code) == ("failed", "tools_failed") and "away" not in run.error_message


def test_a_source_is_a_function_of_the_run() -> None:
    with pytest.raises(UserError, match="not a function of"):
        ToolSource(lambda: [])  # type: ignore[misc, arg-type]


def test_what_was_said_is_there_when_a_choice_is_made() -> None:
    """A function that chooses may look at the database: all that the run has said is committed."""
    seen: list[int] = []

    def choose(about: RunContext) -> Any:
        seen.append(Message.objects.filter(thread_id=about.thread_id).count())
        return model

    model = Says([CallRequested("c", "look", {"what": "x"}), StepFinished("tool_calls")], DONE)
    room = make(choose, tools=[look])
    assert room.play().status == "succeeded"
    assert seen == [1, 3]


def test_the_admin_shows_what_a_step_was_offered_and_what_its_tokens_were(admin_client: Any) -> None:
    used = UsageReported(Usage(10, 4, details={"reasoning_tokens": 3}))
    run = make(Says([*DONE[:1], used, *DONE[1:]]), tools=[ToolSource(lambda about: [look])]).play()
    page = admin_client.get(f"/admin/agentcore/run/{run.pk}/change/").content.decode()
    assert "Tools offered: look" in page and "Of the tokens: reasoning_tokens 3" in page
