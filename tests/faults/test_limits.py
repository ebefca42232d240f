"""A run that would go on for ever ends at a limit with its own code, whichever workers drove it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from agentcore import Agent, Limits, Usage, tool
from agentcore.exceptions import UserError
from agentcore.models import Run, Step, ToolCall
from agentcore.providers import CallRequested, StepFinished, TextDelta, UsageReported
from agentcore.testing import Turn, check_invariants
from tests.integration.room import Died, die_driving, drive_to_the_end, make
from tests.testapp.scripts import Echo

pytestmark = [pytest.mark.django_db, pytest.mark.covers("fault:M4")]

RAN: list[str] = []
PRICES = Limits(max_cost=0.1, price=lambda usage: usage.total_tokens / 1000)


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    RAN.clear()
    yield
    assert check_invariants() == []


@tool(effect="pure")
def look(text: str) -> str:
    """Look."""
    RAN.append(text)
    return "nothing"


class Endless:
    """Asks for `calls` more calls in every step, forty tokens each; the same one, or another each time."""

    name, provider = "endless", "tests"

    def __init__(self, calls: int = 1, *, same: bool = False, dies_at: tuple[int, ...] = ()) -> None:
        self.calls, self.same, self.dies_at, self.asked = calls, same, set(dies_at), 0

    async def stream(self, request: Any) -> Any:
        self.asked += 1
        yield TextDelta("Hm. ")
        if self.asked in self.dies_at:
            Died()
            yield TextDelta("")
        for number in range(self.calls):
            text = "same" if self.same else f"{request.step}.{number}"
            yield CallRequested("x", "look", {"text": text})
        yield UsageReported(Usage(30, 10, 40))
        yield StepFinished("tool_calls")


def ended(model: Any, **limits: Any) -> Run:
    return make(model, [look], limits=Limits(**limits)).play()


def test_the_number_of_calls_is_a_limit() -> None:
    run = ended(Endless(2), max_calls=6)
    assert (run.status, run.error_code, len(RAN)) == ("failed", "limit_calls", 6)


def test_a_turn_that_asks_for_too_many_calls_runs_none_of_them() -> None:
    run = ended(Endless(50), max_calls=6)
    assert (run.status, run.error_code, RAN) == ("failed", "limit_calls", [])
    assert set(ToolCall.objects.filter(run=run).values_list("status", flat=True)) == {"canceled"}


def test_the_same_call_again_and_again_is_a_limit() -> None:
    run = ended(Endless(same=True), max_repeats=3)
    assert (run.status, run.error_code, len(RAN)) == ("failed", "limit_repeats", 3)


def test_the_same_call_at_times_is_none() -> None:
    asked = [Turn(calls=[("look", {"text": text})]) for text in "aabaabaa"]
    run = ended([*asked, Turn(text="Done.")], max_repeats=3)
    assert (run.status, len(RAN)) == ("succeeded", 8)


def test_money_is_a_limit_by_the_apps_own_price() -> None:
    run = make(Endless(), [look], limits=PRICES).play()
    assert (run.status, run.error_code, run.used.total_tokens) == ("failed", "limit_cost", 120)


def test_money_without_a_price_is_a_developers_mistake() -> None:
    with pytest.raises(UserError, match="max_cost needs a price"):
        Agent(name="broke", model=Echo(), limits=Limits(max_cost=1.0))


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"max_steps": 3}, "limit_steps"),
        ({"max_tokens": 130}, "limit_tokens"),
        ({"max_calls": 3}, "limit_calls"),
    ],
)
def test_limits_survive_the_death_of_workers(limits: dict[str, Any], code: str) -> None:
    model = Endless(dies_at=(2, 4))
    run = make(model, [look], limits=Limits(**limits)).send()
    die_driving(run)
    die_driving(run)
    drive_to_the_end(run)
    run.refresh_from_db()
    assert (run.status, run.error_code, run.attempt) == ("failed", code, 3)
    assert len(RAN) <= 3


@pytest.mark.covers("fault:M14", "fault:W3")
@pytest.mark.parametrize(
    "limits", [Limits(max_tokens=200), Limits(max_cost=0.2, price=PRICES.price)], ids=["tokens", "cost"]
)
def test_what_a_lost_call_used_is_unknown_and_counts_as_the_largest_known_one(limits: Limits) -> None:
    run = make(Endless(dies_at=(2, 4)), [look], limits=limits).send()
    die_driving(run)
    die_driving(run)
    drive_to_the_end(run)
    run.refresh_from_db()
    lost = Step.objects.filter(run=run, error_code="worker_lost")
    assert [step.usage for step in lost] == [{}, {}]  # nobody knows, so nothing is claimed
    assert run.status == "failed" and run.error_code in ("limit_tokens", "limit_cost")
    assert run.used.total_tokens == 120  # and the two lost ones counted forty each
