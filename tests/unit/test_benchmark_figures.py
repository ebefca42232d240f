"""The benchmarks compute what their table says: percentiles, medians with their spread, ratios within a round."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from benchmarks import cases, expected, figures, report, subject
from benchmarks.figures import Sample
from benchmarks.workload import W1

pytestmark = pytest.mark.once

REFERENCES = {"floor": ("floor: psycopg", "floor: sqlite3")}


def sample(name: str, rate: float, *, in_flight: int = 1, mode: str = "in process", store: str = "postgres") -> Sample:
    return Sample("B1", name, store, mode, in_flight, {"runs_per_s": rate, "p50_ms": 1000 / rate})


@pytest.mark.parametrize("percent, value", [(50, 50), (99, 99), (100, 100), (1, 1), (0.1, 1)])
def test_a_percentile_is_the_value_that_so_many_are_not_above(percent: float, value: int) -> None:
    assert figures.percentile(range(100, 0, -1), percent) == value


def test_a_percentile_of_few_is_one_of_them() -> None:
    assert [figures.percentile([3.0, 1.0], percent) for percent in (50, 99)] == [1.0, 3.0]
    with pytest.raises(ValueError, match="nothing"):
        figures.percentile([], 50)


def test_a_row_is_the_median_of_its_rounds_with_their_extremes() -> None:
    (row,) = figures.rows([[sample("engine", rate)] for rate in (10, 40, 20)], {})
    assert (row.rounds, row.figures["runs_per_s"]) == (3, figures.Spread(20, 10, 40))
    assert row.to_json()["runs_per_s"] == 20
    assert row.to_json()["spread"]["runs_per_s"] == [10, 40]


def test_a_ratio_is_taken_within_a_round_and_its_median_across_them() -> None:
    rounds = [
        [sample("floor: psycopg", floor), sample("engine", rate)] for floor, rate in ((10, 20), (100, 50), (1, 4))
    ]
    ratios = {row.name: row.ratios["floor"] for row in figures.rows(rounds, REFERENCES)}
    # The ratio of the medians would be 20 / 10 too; that of the last round alone, 4.
    assert ratios == {"floor: psycopg": figures.Spread(1, 1, 1), "engine": figures.Spread(2, 0.5, 4)}


@pytest.mark.parametrize("other", [{"in_flight": 32}, {"store": "sqlite"}])
def test_only_what_had_as_many_in_flight_on_the_same_store_is_compared(other: dict[str, Any]) -> None:
    rows = figures.rows([[sample("floor: psycopg", 10), sample("engine", 20, **other)]], REFERENCES)
    assert [dict(row.ratios) for row in rows if row.name == "engine"] == [{}]


def test_a_round_that_failed_leaves_the_others() -> None:
    rounds = [[sample("floor: psycopg", 10), sample("engine", 30)], [sample("engine", 50)]]
    (row,) = (row for row in figures.rows(rounds, REFERENCES) if row.name == "engine")
    assert (row.rounds, row.ratios["floor"].median) == (2, 3)


def test_what_a_worker_should_reach_is_the_engine_and_rq_one_after_the_other() -> None:
    found = expected.shares(
        [
            sample("agentcore: engine", 600, in_flight=32),
            Sample("B1", "RQ alone: agentcore_worker", "postgres", "queue emptied", 32, {"jobs_per_s": 1200}),
            sample("agentcore: agentcore_worker", 300, in_flight=32, mode="queue emptied"),
        ]
    )
    shares = [one.figures.get(expected.SHARE) for one in found]
    assert shares == [None, None, pytest.approx(0.75)]


def test_no_more_runs_are_under_way_than_were_asked_for() -> None:
    under_way, most = 0, 0

    async def run(number: int) -> str:
        nonlocal under_way, most
        under_way, most = under_way + 1, max(most, under_way + 1)
        await asyncio.sleep(0)
        under_way -= 1
        return W1.text

    found = asyncio.run(subject.drive(run, range(50), 4, text=W1.text))
    assert (most, found["runs"]) == (4, 50)


def test_a_run_that_says_something_else_is_no_result() -> None:
    async def run(number: int) -> str:
        return W1.text if number < 3 else "w00 "

    with pytest.raises(AssertionError, match="run 3"):
        asyncio.run(subject.drive(run, range(5), 1, text=W1.text))


def test_peers_are_measured_only_where_they_are_asked_for_and_a_part_alone_by_its_name() -> None:
    assert not any(case.peer for case in cases.chosen("", peers=False, quick=False))
    assert {case.name for case in cases.chosen("B1", peers=True, quick=True) if case.peer} == {
        "DBOS: sync steps",
        "LangGraph: agent, sync",
    }
    assert {case.part for case in cases.chosen("B5,B6", peers=True, quick=False)} == {"B5", "B6"}
    assert cases.chosen("no such thing", peers=True, quick=False) == []


def test_the_table_has_a_column_for_what_was_measured_and_for_each_ratio() -> None:
    rows = figures.rows([[sample("floor: psycopg", 10), sample("engine", 25)]], REFERENCES)
    head, _, _, engine = report.table(rows).splitlines()
    cells = dict(zip(*([cell.strip() for cell in line.strip("|").split("|")] for line in (head, engine)), strict=True))
    assert cells["B1"] == "engine"
    assert (cells["runs/s"], cells["p50 ms"], cells["× floor"]) == ("25", "40", "2.5")
