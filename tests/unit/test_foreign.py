"""What a tool gives back may be anything; what is kept of it is JSON of a bounded size."""

from __future__ import annotations

import hashlib
import json
import math
import tracemalloc
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from agentcore.foreign import bounded
from agentcore.jsontext import TRUNCATED

pytestmark = pytest.mark.once

LIMIT = 1000
BINARY = b"\x00\xff"


class Silent:
    """Cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -1.5, "text", "", [], {}, [1, [2, {"a": None}]], {"b": [True], "a": "x"}, "Grüße 🐻"],
)
def test_what_is_json_and_small_is_kept_as_it_is(value: Any) -> None:
    assert bounded(value, LIMIT) == value


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("a\x00b\ud800", "a\ufffdb\ufffd"),
        (math.nan, "nan"),
        (2**64, str(2**64)),
        ((1, 2), [1, 2]),
        ({1: "a", None: "b"}, {"1": "a", "None": "b"}),
        (Decimal("1.50"), "1.50"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02 00:00:00+00:00"),
        (Silent(), "<Silent>"),
        ({Silent(): 1}, {"<Silent>": 1}),
        (BINARY, f"[2 bytes, sha256 {hashlib.sha256(BINARY).hexdigest()}]"),
    ],
    ids=type,
)
def test_what_is_not_json_is_told_as_text(value: Any, kept: Any) -> None:
    assert bounded(value, LIMIT) == kept


def test_a_text_that_is_too_long_says_how_long_it_was_and_which() -> None:
    text = "ab" * 3_000_000
    kept = bounded(text, LIMIT)
    assert (
        kept == text[:LIMIT] + f"{TRUNCATED} {len(text)} characters, sha256 {hashlib.sha256(text.encode()).hexdigest()}"
    )


def test_what_is_left_out_is_counted_and_the_shape_stays() -> None:
    kept = bounded(list(range(100_000)), LIMIT)
    assert kept[:3] == [0, 1, 2] and kept[-1] == f"{TRUNCATED} {100_000 - len(kept) + 1} more"
    kept = bounded({f"key {number}": "x" * 50 for number in range(100_000)}, LIMIT)
    assert kept["key 0"] == "x" * 50 and kept[TRUNCATED].endswith(" more")
    assert len(json.dumps(kept)) < 2 * LIMIT


def cycle() -> Any:
    value: list[Any] = [1]
    value += [value, value]
    return value


def laughs() -> Any:
    """Two to the power of sixty texts, in sixty lists."""
    value: Any = "lol"
    for _ in range(60):
        value = [value, value]
    return value


def deep() -> Any:
    value: Any = "bottom"
    for _ in range(20_000):
        value = {"a": value}
    return value


@pytest.mark.parametrize("make", [cycle, laughs, deep])
def test_shapes_without_an_end_come_to_one(make: Any) -> None:
    text = json.dumps(bounded(make(), LIMIT), ensure_ascii=False)
    assert TRUNCATED in text and len(text) < 20 * LIMIT


def test_one_object_at_two_places_is_no_cycle() -> None:
    shared = {"a": 1}
    assert bounded([shared, shared], LIMIT) == [shared, shared]


def test_a_huge_text_is_not_copied() -> None:
    text = "x" * 50_000_000
    tracemalloc.start()
    bounded({"text": text}, LIMIT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000
