"""What is countable of a usage, what becomes of several reports of one call, and sums that fit."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentcore.values.jsontext import MAX_SAFE_INTEGER
from agentcore.values.usage import MOST_TOKENS, Usage

pytestmark = pytest.mark.once

NO_COUNTS = [-5, 3_000_000_000, 3e9, 1e20, 12.5, None, True, float("nan"), float("inf"), "12", "many", [], 10**400]


@pytest.mark.covers("fc:B4")
def test_the_last_report_of_a_call_counts() -> None:
    used = Usage()
    for tokens in (101, 102, 103):
        used, refused = used.updated(Usage(40, tokens, 40 + tokens, {"reasoning": tokens - 100}))
        assert not refused
    assert used == Usage(40, 103, 143, {"reasoning": 3})


@pytest.mark.covers("fc:B4")
@pytest.mark.parametrize(
    "reports, used",
    [
        ([Usage(40, 1, 41), Usage(output_tokens=50)], Usage(40, 50, 90)),
        ([Usage(40, 1, 41), Usage(output_tokens=50, total_tokens=50)], Usage(40, 50, 90)),
        ([Usage(input_tokens=40), Usage(output_tokens=50)], Usage(40, 50, 90)),
        ([Usage(40, 50, 90), Usage()], Usage(40, 50, 90)),
        ([Usage(10, 5, 40), Usage(output_tokens=6)], Usage(10, 6, 41)),  # 25 that are in neither
        ([Usage(40, 200, 240), Usage(40, 50, 90)], Usage(40, 50, 90)),
        ([Usage(40, 1, 41, {"cached": 7}), Usage(40, 2, 42, {"new": 1})], Usage(40, 2, 42, {"cached": 7, "new": 1})),
    ],
)  # fmt: skip
def test_what_a_later_report_lacks_stays_as_it_was(reports: list[Usage], used: Usage) -> None:
    found = Usage()
    for report in reports:
        found, refused = found.updated(report)
        assert not refused
    assert found == used


@pytest.mark.covers("fc:B5")
@pytest.mark.parametrize("value", NO_COUNTS, ids=lambda value: repr(value)[:12])
@pytest.mark.parametrize("name", ["input_tokens", "output_tokens", "total_tokens"])
def test_what_is_no_count_is_left_out_and_named(name: str, value: Any) -> None:
    counts: dict[str, Any] = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15, name: value}
    used, refused = Usage().updated(Usage(**counts))
    read, written = (10, 5) if name == "total_tokens" else (0, 5) if name == "input_tokens" else (10, 0)
    assert (used.input_tokens, used.output_tokens, refused) == (read, written, [name])
    assert used.total_tokens == 15
    json.dumps(used.to_json(), allow_nan=False)


@pytest.mark.covers("fc:B5")
@pytest.mark.parametrize("value", NO_COUNTS, ids=lambda value: repr(value)[:12])
def test_finer_counts_that_are_none_are_left_out(value: Any) -> None:
    used, refused = Usage().updated(Usage(10, 5, 15, {"cached": value, "thought": 2}))
    assert (used, refused) == (Usage(10, 5, 15, {"thought": 2}), ["details.cached"])


@pytest.mark.covers("fc:B5")
@pytest.mark.parametrize("report", [None, {"input_tokens": 5}, 5, "usage", Usage(10, 5, 15, None)])  # type: ignore[arg-type]
def test_a_report_of_another_kind_is_refused_as_a_whole_or_in_its_details(report: Any) -> None:
    used, refused = Usage(1, 1, 2).updated(report)
    expected = (Usage(10, 5, 15), ["details"]) if isinstance(report, Usage) else (Usage(1, 1, 2), ["usage"])
    assert (used, refused) == expected


@pytest.mark.covers("fc:B5")
def test_odd_names_and_too_many_details_are_left_out() -> None:
    odd: dict[Any, Any] = {"": 1, 7: 2, "n" * 65: 3, "a\x00b": 4, "fine": 5}
    used, refused = Usage().updated(Usage(1, 1, 2, odd))
    assert dict(used.details) == {"a\ufffdb": 4, "fine": 5}
    assert len(refused) == 3
    used, refused = Usage().updated(Usage(1, 1, 2, {f"kind {number}": number for number in range(10_000)}))
    assert (len(used.details), refused) == (32, ["details"])


@pytest.mark.covers("fc:B5")
@pytest.mark.parametrize(
    "given, total, refused",
    [
        (Usage(10, 5), 15, []),  # it is not said, so it is the sum
        (Usage(10, 5, 15), 15, []),
        (Usage(10, 5, 40), 40, []),  # what is in neither was used too
        (Usage(10, 5, 3), 15, ["total_tokens"]),  # a part cannot be more than the whole
        (Usage(0, 0, 500), 500, []),
    ],
)
def test_a_total_is_never_less_than_its_parts(given: Usage, total: int, refused: list[str]) -> None:
    used, found = Usage().updated(given)
    assert (used.total_tokens, found) == (total, refused)


@pytest.mark.covers("fc:B5")
def test_sums_stay_within_what_every_store_and_reader_takes() -> None:
    most = Usage(MOST_TOKENS, MOST_TOKENS, 2 * MOST_TOKENS, {"cached": MOST_TOKENS})
    assert sum([most] * 1000, Usage()).total_tokens == 2000 * MOST_TOKENS < MAX_SAFE_INTEGER
    full = Usage(MAX_SAFE_INTEGER, MAX_SAFE_INTEGER, MAX_SAFE_INTEGER, {"cached": MAX_SAFE_INTEGER})
    assert full + most == full
    many = sum((Usage(1, 1, 2, {f"kind {number}": 1}) for number in range(100)), Usage())
    assert (many.total_tokens, len(many.details)) == (200, 32)


@pytest.mark.covers("fc:B5")
@pytest.mark.parametrize(
    "stored",
    [
        {"v": 1, "input_tokens": -5, "output_tokens": 10, "total_tokens": 5, "details": {"a": -1}},
        {"v": 1, "input_tokens": None, "output_tokens": 10, "total_tokens": "10", "details": None},
        {"v": 1, "input_tokens": 1e20, "output_tokens": 10, "total_tokens": 10, "details": {"a": "b"}},
        {"output_tokens": 10},
    ],
)
def test_what_an_earlier_version_stored_is_read_as_counts(stored: dict[str, Any]) -> None:
    assert Usage.from_json(stored) == Usage(0, 10, 10)


@pytest.mark.covers("fc:B5")
@pytest.mark.parametrize("stored", [None, {}, [], "usage", 7])
def test_nothing_readable_is_no_usage(stored: Any) -> None:
    assert Usage.from_json(stored) == Usage()
