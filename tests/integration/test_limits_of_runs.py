"""What limits mean: how many model calls are made, which calls are not run once a limit is reached, what it costs."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from agentcore import Limits, Usage, tool
from agentcore.declaration import registry
from agentcore.exceptions import ModelError
from agentcore.models import Approval, ToolCall
from agentcore.providers import CallRequested, StepFinished, TextDelta, UsageReported
from agentcore.testing import Turn, run_until_idle
from tests.integration.room import approve, assert_ended_once, drive_to_the_end, fresh, make

pytestmark = [pytest.mark.once, pytest.mark.django_db]

RAN: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


@tool(effect="pure")
def look(text: str = "") -> str:
    """Look."""
    RAN.append(text)
    return "nothing"


@tool(needs_approval=True)
def gated(text: str = "") -> str:
    """Look, if somebody lets it."""
    RAN.append(text)
    return "nothing"


class Asks:
    """Asks for a call in every step, for ever or `times` times."""

    name, provider = "asks", "tests"

    def __init__(self, times: int = 1000, name: str = "look", usage: Usage | None = None) -> None:
        self.times, self.call, self.usage, self.asked = times, name, usage or Usage(5, 5, 10), 0

    async def stream(self, request: Any) -> Any:
        self.asked += 1
        yield UsageReported(self.usage)
        if self.asked <= self.times:
            yield CallRequested("x", self.call, {"text": str(self.asked)})
            yield StepFinished("tool_calls")
        else:
            yield TextDelta("Done.")
            yield StepFinished("stop")


# --- max_steps -------------------------------------------------------------------------------------------------------


@pytest.mark.covers("fc:C7")
@pytest.mark.parametrize("most", [1, 2, 20])
def test_the_limit_of_steps_is_the_number_of_model_calls(most: int) -> None:
    model = Asks()
    run = fresh(make(model, [look], limits=Limits(max_steps=most)).play())
    assert (run.status, run.error_code, model.asked) == ("failed", "limit_steps", most)
    assert f"its {most} model call" in run.error_message


@pytest.mark.covers("fc:C7")
def test_a_run_that_needs_exactly_its_model_calls_succeeds() -> None:
    model = Asks(times=4)
    run = make(model, [look], limits=Limits(max_steps=5)).play()
    assert (run.status, model.asked, len(RAN)) == ("succeeded", 5, 4)


@pytest.mark.covers("fc:C7")
def test_a_model_call_that_failed_and_is_made_again_counts_once(settings: Any) -> None:
    failing = Turn(error=ModelError("Slow down.", code="rate_limited", retry_after=0.01))
    run = make([failing, failing, Turn(text="Done.")], limits=Limits(max_steps=1)).play()
    assert run.status == "succeeded"


# --- a call whose result no model may read is not run ---------------------------------------------------------------


@pytest.mark.covers("fc:C1")
@pytest.mark.parametrize(
    "limits, code",
    [
        (Limits(max_steps=2), "limit_steps"),
        (Limits(max_tokens=15), "limit_tokens"),
        (Limits(max_cost=15.0, price=lambda usage: usage.total_tokens), "limit_cost"),
        (Limits(max_calls=1), "limit_calls"),
        (Limits(max_cost=15.0, price=lambda usage: float("nan") if usage.total_tokens > 15 else 0.0), "limit_cost"),
    ],
    ids=["steps", "tokens", "cost", "calls", "no number"],
)
def test_the_calls_of_the_model_call_that_reached_a_limit_are_not_run(limits: Limits, code: str) -> None:
    run = make(Asks(), [look], limits=limits).play()
    assert (run.status, run.error_code, RAN) == ("failed", code, ["1"])
    assert [*ToolCall.objects.filter(run=run).order_by("pk").values_list("status", flat=True)] == [
        "succeeded",
        "canceled",
    ]
    assert_ended_once(run, "failed")


@pytest.mark.covers("fc:C1")
def test_nobody_is_asked_for_long_to_approve_a_call_that_would_not_run() -> None:
    run = make(Asks(name="gated"), [gated], limits=Limits(max_steps=1)).play()
    assert (run.status, run.error_code, RAN) == ("failed", "limit_steps", [])
    assert [approval.status for approval in Approval.objects.filter(run=run)] == ["canceled"]


@pytest.mark.parametrize(
    "limits", [Limits(max_calls=3), Limits(max_repeats=1), Limits(max_steps=4)], ids=["calls", "repeats", "steps"]
)
def test_a_model_may_answer_after_it_has_used_up_its_calls(limits: Limits) -> None:
    run = make(Asks(times=3), [look], limits=limits).play()
    assert (run.status, len(RAN)) == ("succeeded", 3)


# --- what limits cost -------------------------------------------------------------------------------------------------


@pytest.mark.covers("fc:F4")
def test_limits_ask_the_database_once_and_not_at_every_step() -> None:
    def queries(**limits: Any) -> list[str]:
        with registry.isolated():
            room = make(Asks(times=6), [look], limits=Limits(**limits))
            run = room.send()
            with CaptureQueriesContext(connection) as captured:
                assert run_until_idle(run).status == "succeeded"
        return [query["sql"] for query in captured if query["sql"].startswith("SELECT")]

    bare = queries()
    assert len(queries(max_calls=20, max_repeats=20, max_tokens=10_000, max_seconds=60.0)) == len(bare)


@pytest.mark.covers("fc:F4")
def test_calls_of_earlier_attempts_count() -> None:
    room = make(Asks(name="gated"), [gated], limits=Limits(max_calls=2))
    run = room.play()
    for _ in range(2):
        assert run.status == "waiting"
        approve(run)
        run = drive_to_the_end(run)
    assert (run.status, run.error_code, RAN) == ("failed", "limit_calls", ["1", "2"])
