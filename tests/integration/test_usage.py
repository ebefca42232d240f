"""What a run says its model calls have used: one report a call, counts only, and a note where nothing is reported."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
from django.urls import reverse

from agentcore import Limits, Usage, tool
from agentcore.engine import snapshot
from agentcore.engine.snapshot import Snapshot
from agentcore.exceptions import ModelError
from agentcore.models import Run, Step
from agentcore.providers import CallRequested, StepFinished, TextDelta, UsageReported
from tests.integration.room import fresh, log, make

pytestmark = [pytest.mark.once, pytest.mark.django_db]

PRICED = Limits(max_cost=1.0, price=lambda usage: usage.total_tokens / 1000)


class Reports:
    """Answers once, or asks for a call in every one of `steps` steps first, and reports usage as it is told to."""

    name, provider = "reports", "tests"

    def __init__(self, *reports: Any, steps: int = 0, fails: bool = False) -> None:
        self.reports, self.steps, self.fails, self.asked = reports, steps, fails, 0

    async def stream(self, request: Any) -> Any:
        self.asked += 1
        for report in self.reports:
            yield TextDelta("Well. ")
            yield UsageReported(report)
        yield TextDelta("A word of forty characters, all in all.")
        if self.fails:
            raise ModelError("The line went dead.", code="network", retryable=False)
        if self.asked <= self.steps:
            yield CallRequested("x", "look", {})
        yield StepFinished("tool_calls" if self.asked <= self.steps else "stop")


@tool(effect="pure")
def look() -> str:
    """Look."""
    return "nothing"


def play(model: Any, tools: Sequence[Any] = (look,), **options: Any) -> Run:
    return fresh(make(model, tools, **options).play())


def refusals(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if getattr(record, "action", "") == "usage_refused"]


@pytest.mark.covers("fc:B4")
def test_of_several_reports_of_one_call_the_last_one_counts() -> None:
    run = play(Reports(Usage(40, 101, 141), Usage(40, 102, 142), Usage(40, 103, 143)))
    assert run.used == Usage(40, 103, 143)
    assert Usage.from_json(Step.objects.get(run=run).usage) == run.used
    assert [event["usage"]["output_tokens"] for event in log(run) if event["type"] == "usage"] == [103]


@pytest.mark.covers("fc:B4")
def test_the_usage_of_a_run_is_the_sum_of_its_calls() -> None:
    run = play(Reports(Usage(40, 101, 141), Usage(40, 102, 142), steps=2))
    assert run.used == Usage(120, 306, 426)


def test_what_was_read_of_a_run_stays_as_it_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    load, read = snapshot.load_many, []

    def load_many(run_ids: Sequence[UUID]) -> dict[UUID, Snapshot]:
        found = load(run_ids)
        read.extend((state.run, dict(vars(state.run))) for state in found.values())
        return found

    monkeypatch.setattr(snapshot, "load_many", load_many)
    assert play(Reports(Usage(1, 1, 2), steps=2)).used == Usage(3, 3, 6)
    assert read and all(vars(run) == before for run, before in read)


@pytest.mark.covers("fc:B4")
def test_a_call_that_breaks_off_has_used_what_it_reported_last() -> None:
    run = play(Reports(Usage(40, 1, 41), Usage(0, 7), fails=True))
    assert (run.status, run.used) == ("failed", Usage(40, 7, 47))


@pytest.mark.covers("fc:B5")
@pytest.mark.parametrize(
    "report, used",
    [
        (Usage(3_000_000_000, 5, 3_000_000_005), Usage(0, 5, 5)),
        (Usage(-5, 5, 0), Usage(0, 5, 5)),
        (Usage(1e20, 5, 1e20), Usage(0, 5, 5)),  # type: ignore[arg-type]
        (Usage(None, 5, None), Usage(0, 5, 5)),  # type: ignore[arg-type]
        (Usage(float("nan"), 5, float("nan")), Usage(0, 5, 5)),  # type: ignore[arg-type]
        (Usage(True, "5", 10), Usage(0, 0, 10)),  # type: ignore[arg-type]
        (Usage(3, 5, 8, {"cached": -1, "thought": 2, "": 9, "n" * 500: 1}), Usage(3, 5, 8, {"thought": 2})),
        (None, Usage()),
    ],
)
def test_what_is_no_count_is_left_out_and_logged(report: Any, used: Usage, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "agentcore.engine"):
        run = play(Reports(report))
    assert (run.status, run.used) == ("succeeded", used)
    (record,) = refusals(caplog)
    assert (record.levelname, record.run_id, record.attempt) == ("WARNING", str(run.pk), 1)  # type: ignore[attr-defined]


@pytest.mark.covers("fc:B5")
def test_a_negative_count_does_not_weaken_a_limit() -> None:
    model = Reports(Usage(-1_000_000, 40, -999_960), steps=100)
    run = play(model, limits=Limits(max_tokens=120))
    assert (run.status, run.error_code, model.asked) == ("failed", "limit_tokens", 3)


@pytest.mark.covers("fc:B5")
def test_the_largest_counts_add_up_over_many_steps_and_are_shown(admin_client: Any) -> None:
    run = play(Reports(Usage(10**9, 10**9, 10**9), Usage(10**9, 10**9), steps=12))
    assert (run.status, run.used.total_tokens) == ("succeeded", 26 * 10**9)
    page = admin_client.get(reverse("admin:agentcore_run_changelist"))
    assert "26000000000" in page.content.decode().replace(",", "").replace("&nbsp;", "")


@pytest.mark.covers("fc:B5")
def test_a_usage_that_an_earlier_version_stored_keeps_nobody_from_reading_or_going_on(user: Any, client: Any) -> None:
    room = make([], user=user)
    run = room.send()
    Run.objects.filter(pk=run.pk).update(usage={"v": 1, "input_tokens": -5, "output_tokens": None, "details": 3})
    client.force_login(user)
    shown = client.get(f"/agent/runs/{run.pk}").json()
    assert shown["usage"] == {"v": 1, "input_tokens": 0, "output_tokens": 0, "total_tokens": 0, "details": {}}


@pytest.mark.covers("fc:B6")
@pytest.mark.parametrize("limits", [Limits(max_tokens=1000), PRICED], ids=["tokens", "cost"])
def test_a_model_without_usage_is_noted_where_a_limit_goes_by_it(
    limits: Limits, caplog: pytest.LogCaptureFixture, user: Any, client: Any, admin_client: Any
) -> None:
    with caplog.at_level(logging.WARNING, "agentcore.engine"):
        run = play(Reports(steps=2), limits=limits, user=user)
    assert run.status == "succeeded"
    (record,) = [record for record in caplog.records if getattr(record, "action", "") == "usage_missing"]
    assert (record.levelname, record.run_id) == ("WARNING", str(run.pk))  # type: ignore[attr-defined]
    name = "max_tokens" if limits.max_tokens else "max_cost"
    client.force_login(user)
    assert client.get(f"/agent/runs/{run.pk}").json()["notes"] == []  # whoever asked can do nothing about it
    page = admin_client.get(reverse("admin:agentcore_run_change", args=[run.pk])).content.decode()
    assert f"{name} cannot end the run" in page


@pytest.mark.covers("fc:B6")
@pytest.mark.parametrize(
    "model, limits",
    [
        (Reports(Usage(1, 1)), Limits(max_tokens=1000)),
        (Reports(), Limits()),
        (Reports(fails=True), Limits(max_tokens=9)),
    ],
    ids=["reported", "no limit", "broken off"],
)
def test_nothing_is_noted_where_nothing_is_amiss(model: Any, limits: Limits) -> None:
    assert play(model, limits=limits).notes == {}


@pytest.mark.covers("fc:B6")
def test_a_usage_without_a_single_count_is_no_report() -> None:
    assert "usage_missing" in play(Reports(Usage(-5, -5, -5)), limits=Limits(max_tokens=1000)).notes


@pytest.mark.covers("fc:B6")
def test_tokens_are_estimated_where_the_setting_asks_for_it_and_end_the_run(settings: Any) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "ESTIMATE_TOKENS": True}
    model = Reports(steps=100)
    run = play(model, limits=Limits(max_tokens=300), instructions="i" * 400)
    assert (run.status, run.error_code) == ("failed", "limit_tokens")
    assert 1 <= model.asked <= 3  # a hundred for the instructions alone, each time
    assert "estimated" in run.notes["usage_missing"]
    assert run.used.details == {"estimated_tokens": run.used.total_tokens}
    assert run.used.input_tokens >= 100 * model.asked and run.used.output_tokens >= 10 * model.asked


@pytest.mark.covers("fc:B6")
def test_what_was_reported_is_not_estimated(settings: Any) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "ESTIMATE_TOKENS": True}
    assert play(Reports(Usage(1, 2, 3))).used == Usage(1, 2, 3)


@pytest.mark.covers("fc:B6")
def test_an_estimate_covers_a_call_that_broke_off_after_it_had_spoken(settings: Any) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "ESTIMATE_TOKENS": True}
    run = play(Reports(fails=True), instructions="i" * 400)
    assert run.status == "failed" and run.used.input_tokens >= 100 and run.used.output_tokens >= 10
