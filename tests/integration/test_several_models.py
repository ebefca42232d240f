"""The next model is asked where one failed in silence, and a step of several is tried as often as one of one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.conf import LazySettings

from agentcore import Limits, tool
from agentcore.engine.runtime import Runtime
from agentcore.engine.steps import model as steps
from agentcore.exceptions import ModelError
from agentcore.providers import (
    CallRequested,
    DataFound,
    ModelEvent,
    ModelRequest,
    ReasoningDelta,
    ReasoningEnded,
    StepFinished,
    TextDelta,
    UsageReported,
)
from agentcore.services import execution
from agentcore.testing.faults.plans import armed
from agentcore.values.usage import Usage
from tests.integration.room import Died, drive_to_the_end, fresh, lapse, log, make, models_of, types
from tests.integration.says import Says

pytestmark = pytest.mark.django_db

DONE = [TextDelta("Done."), StepFinished("stop")]
DOWN = [ModelError("503", code="overloaded")]
NO_KEY = [ModelError("no key", code="auth")]
REFUSED = [ModelError("no", code="invalid_request")]


@pytest.fixture(autouse=True)
def _no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed call is made again at once."""
    monkeypatch.setattr(steps.random, "uniform", lambda low, high: 0.0)


@tool(effect="pure")
def look(what: str) -> str:
    """Look at something."""
    return "seen"


@pytest.mark.parametrize(
    "silence",
    [
        DOWN,
        NO_KEY,
        REFUSED,
        [StepFinished("stop")],
        [ReasoningEnded({}), *DOWN],
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


WORDS = [TextDelta("I"), ReasoningDelta("Hm"), CallRequested("c", "look", "{}"), DataFound("d", 1)]


@pytest.mark.parametrize("word", WORDS)
def test_a_model_that_has_said_something_is_asked_again_itself(word: Any) -> None:
    first, second = Says([word, *DOWN], DONE, name="first"), Says(DONE, name="second")
    run = make((first, second), tools=[look]).play()
    assert run.status == "succeeded" and not second.requests
    assert [name for name, _, _ in models_of(run)] == ["first", "first"]


def test_each_step_begins_with_the_first_model_again() -> None:
    call = [CallRequested("c", "look", {"what": "x"}), StepFinished("tool_calls")]
    first, second = Says(DOWN, DONE, name="first"), Says(call, name="second")
    run = make((first, second), tools=[look]).play()
    assert [name for name, _, _ in models_of(run)] == ["first", "second", "first"]


# --- limits -------------------------------------------------------------------------------------------------------


def test_what_a_failed_model_used_is_counted() -> None:
    first = Says([UsageReported(Usage(7, 1)), *DOWN], name="first")
    run = make((first, Says([UsageReported(Usage(10, 2)), *DONE]))).play()
    assert fresh(run).used.total_tokens == 20


def test_a_run_that_has_used_its_tokens_asks_no_other_model() -> None:
    first, second = Says([UsageReported(Usage(1000, 0)), *DOWN]), Says(DONE)
    run = make((first, second), limits=Limits(max_tokens=100)).play()
    assert (run.error_code, second.requests) == ("limit_tokens", [])


class Pauses(Says):
    """Lets some seconds pass before it says anything."""

    def __init__(self, seconds: float, *turns: list[Any]) -> None:
        super().__init__(*turns)
        self.seconds = seconds

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """Pause, and play the next turn."""
        await asyncio.sleep(self.seconds)
        async for event in super().stream(request):
            yield event


def test_all_the_models_of_a_step_have_its_time_together(settings: LazySettings) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "STEP_SECONDS": 0.4, "MODEL_RETRIES": 0}
    hangs, would_answer = Pauses(60, DONE), Pauses(0.1, DONE)
    run = make((hangs, would_answer)).play()
    assert (run.status, run.error_code, would_answer.requests) == ("failed", "timeout", [])


# --- tries --------------------------------------------------------------------------------------------------------


def test_all_of_them_are_asked_again_as_often_as_one_would_be(settings: LazySettings) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "MODEL_RETRIES": 2}
    first, second = Says(*[DOWN] * 3, name="first"), Says(*[DOWN] * 3, name="second")
    run = make((first, second)).play()
    assert (run.status, run.error_code) == ("failed", "overloaded")
    assert (len(first.requests), len(second.requests)) == (3, 3)


@pytest.mark.parametrize("others", [0, 1, 3])
def test_a_model_that_has_begun_is_asked_as_often_as_it_would_be_alone(others: int, settings: LazySettings) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "MODEL_RETRIES": 2}
    first = Says(*[[TextDelta("I"), *DOWN]] * 20)
    make((first, *[Says(DONE)] * others)).play()
    assert len(first.requests) == 3


def test_a_list_that_becomes_shorter_is_tried_as_often(settings: LazySettings) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "MODEL_RETRIES": 2}
    first, second, third = (Says(*[DOWN] * 20) for _ in range(3))
    lists = [[first, second, third], [first], [first], [first]]
    make(lambda about: lists.pop(0)).play()
    assert len(first.requests) == 3


def test_a_worker_that_dies_between_two_models_takes_no_try_away(settings: LazySettings) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "MODEL_RETRIES": 1}
    first, second = Says(*[DOWN] * 20), Says(*[DOWN] * 20)
    run = make((first, second)).send()
    started: list[Any] = []

    def die_at_the_second() -> None:
        started.append(None)
        if len(started) == 2:
            raise Died

    with armed(after_model_start=die_at_the_second):
        execution.drive(run.pk, Runtime("doomed", inline=True))
    lapse(run)
    assert drive_to_the_end(run).error_code == "overloaded"
    assert (len(first.requests), len(second.requests)) == (3, 2)


@pytest.mark.parametrize("point", ["after_model_start", "mid_stream", "after_claim", "before_finish"])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_worker_may_die_anywhere_between_two_models(point: str, nth: int) -> None:
    """Each failure of the first is counted as often as it is told, and the answer once."""
    first = Says(*[[UsageReported(Usage(5, 0)), *DOWN]] * 9, name="first")
    second = Says(*[[UsageReported(Usage(7, 2)), TextDelta("Do"), TextDelta("ne."), StepFinished("stop")]] * 9)
    run = make((first, second)).send()
    hits: list[Any] = []

    def die() -> None:
        hits.append(None)
        if len(hits) == nth:
            raise Died

    with armed(**{point: die}):
        execution.drive(run.pk, Runtime("doomed", inline=True))
    lapse(run)
    run = drive_to_the_end(run)
    assert [message.text for message in run.messages.filter(author_kind="agent")] == ["Done."]
    told = sum(event["usage"]["total_tokens"] for event in log(run) if event["type"] == "usage")
    failures = [model for model, _, code in models_of(run) if code == "overloaded"]
    assert run.used.total_tokens == told == 5 * len(failures) + 9


# --- errors -------------------------------------------------------------------------------------------------------


def test_a_model_that_refuses_does_not_keep_another_from_being_asked_again() -> None:
    first, second = Says(DOWN, DONE), Says(*[NO_KEY] * 9)
    assert make((first, second)).play().status == "succeeded"


def test_no_model_is_asked_again_before_the_longest_wait_that_one_has_named() -> None:
    waits = [ModelError("429", code="rate_limited", retry_after=seconds) for seconds in (30, 60)]
    first, second, third = Says([waits[0]]), Says([waits[1]]), Says(DOWN)
    run = make((first, second, third)).send()
    execution.drive(run.pk, Runtime("worker", inline=True))
    released = log(run)[-1]
    asked_at, again_at = (datetime.fromisoformat(released[at]) for at in ("ts", "available_at"))
    assert released["type"] == "run.released" and again_at - asked_at == timedelta(minutes=1)
    assert [len(model.requests) for model in (first, second, third)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("second", "code"), [(REFUSED, "auth"), ([TextDelta("I"), *REFUSED], "invalid_request")], ids=["silent", "begun"]
)
def test_a_run_ends_with_the_error_of_the_first_model_unless_another_has_begun(second: list[Any], code: str) -> None:
    run = make((Says(NO_KEY), Says(second))).play()
    assert (run.status, run.error_code) == ("failed", code)
