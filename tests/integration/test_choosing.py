"""Models, tools and settings are chosen by run, and the next model is asked where one failed in silence."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from django.conf import LazySettings

from agentcore import RunContext, Tool, ToolSource, tool
from agentcore.engine.steps import model as steps
from agentcore.exceptions import ModelError, UserError
from agentcore.models import Message, Run, Step, ToolCall
from agentcore.providers import (
    CallRequested,
    DataFound,
    ReasoningDelta,
    StepFinished,
    TextDelta,
    UsageReported,
)
from agentcore.testing import run_until_idle
from agentcore.values.usage import Usage
from tests.integration.room import approve, fresh, log, make, types
from tests.integration.says import Says

pytestmark = pytest.mark.django_db

DONE = [TextDelta("Done."), StepFinished("stop")]
DOWN = [ModelError("503", code="overloaded")]


@pytest.fixture(autouse=True)
def _no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed call is made again at once."""
    monkeypatch.setattr(steps.random, "uniform", lambda low, high: 0.0)


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


def models_of(run: Run) -> list[tuple[str, str, str]]:
    found = Step.objects.filter(run=run, kind="model").order_by("started_at", "pk")
    return [(step.model, str(step.status), step.error_code) for step in found]


# --- several models -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "silence",
    [
        DOWN,
        [ModelError("no key", code="auth")],
        [ModelError("no", code="invalid_request")],
        [StepFinished("stop")],
        [UsageReported(Usage(7, 0)), ModelError("late", code="rate_limited", retry_after=3000)],
        [ConnectionResetError("reset")],
        [ValueError("a mistake of the adapter's")],
    ],
)
def test_the_next_model_is_asked_where_one_failed_before_it_said_anything(silence: list[Any]) -> None:
    first, second = Says(silence, name="first"), Says(DONE, name="second")
    run = make((first, second)).play()
    assert run.status == "succeeded"
    assert [(name, status) for name, status, _ in models_of(run)] == [("first", "failed"), ("second", "finished")]
    assert [message.text for message in run.messages.filter(author_kind="agent")] == ["Done."]
    started = [event["model"] for event in log(run) if event["type"] == "step.started"]
    assert started == ["first", "second"] and types(run).count("step.reset") == 1


def test_what_a_failed_model_used_is_counted() -> None:
    first = Says([UsageReported(Usage(7, 1)), *DOWN], name="first")
    run = make((first, Says([UsageReported(Usage(10, 2)), *DONE]))).play()
    assert fresh(run).used.total_tokens == 20


WORDS = [TextDelta("I"), ReasoningDelta("Hm"), CallRequested("c", "look", "{}"), DataFound("d", 1)]


@pytest.mark.parametrize("word", WORDS)
def test_a_model_that_has_said_something_is_asked_again_itself(word: Any) -> None:
    first, second = Says([word, *DOWN], DONE, name="first"), Says(DONE, name="second")
    run = make(
        (
            first,
            second,
        ),
        tools=[look],
    ).play()
    assert run.status == "succeeded" and not second.requests
    assert [name for name, _, _ in models_of(run)] == ["first", "first"]


def test_all_of_them_are_asked_again_as_often_as_one_would_be(settings: LazySettings) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "MODEL_RETRIES": 2}
    first, second = Says(*[DOWN] * 3, name="first"), Says(*[DOWN] * 3, name="second")
    run = make(
        (
            first,
            second,
        )
    ).play()
    assert (run.status, run.error_code) == ("failed", "overloaded")
    assert (len(first.requests), len(second.requests)) == (3, 3)


def test_each_step_begins_with_the_first_model_again() -> None:
    call = [CallRequested("c", "look", {"what": "x"}), StepFinished("tool_calls")]
    first, second = Says(DOWN, DONE, name="first"), Says(call, name="second")
    run = make(
        (
            first,
            second,
        ),
        tools=[look],
    ).play()
    assert [name for name, _, _ in models_of(run)] == ["first", "second", "first"]


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
