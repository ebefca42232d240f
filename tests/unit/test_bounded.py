"""What a tool gives back may be anything; what is kept of it is JSON of a bounded size."""

from __future__ import annotations

import enum
import hashlib
import json
import math
import tracemalloc
from collections import deque
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.utils.translation import gettext_lazy
from pydantic import BaseModel, Field

from agentcore.exceptions import Unfinished
from agentcore.values.bounded import cut
from agentcore.values.jsontext import TRUNCATED
from agentcore.values.serialized import NO_FORM as NO_FIELD_FORM

pytestmark = pytest.mark.once

LIMIT = 1000
BINARY = b"\x00\xff"


class Silent:
    """Cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no")


NO_FORM = "[an object of type Silent, which has no JSON form]"


class Colour(enum.Enum):
    """A plain enumeration."""

    RED = "red"


@dataclass
class Point:
    """A plain dataclass."""

    x: int
    y: Decimal


class Order(BaseModel):
    """A model with an alias."""

    number: int = Field(serialization_alias="orderNumber")
    at: datetime | None = None


@dataclass
class Holder:
    """Holds a model, and what has no JSON."""

    inner: Order
    other: object


class Loose(BaseModel):
    """Holds anything."""

    what: Any
    data: bytes


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -1.5, "text", "", [], {}, [1, [2, {"a": None}]], {"b": [True], "a": "x"}, "Grüße 🐻"],
)
def test_what_is_json_and_small_is_kept_as_it_is(value: Any) -> None:
    assert cut(value, LIMIT) == value


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("a\x00b\ud800", "a\ufffdb\ufffd"),
        (math.nan, "NaN"),
        (2**64, 2**64),
        ((1, 2), [1, 2]),
        ({1: "a", None: "b"}, {"1": "a", "None": "b"}),
        (Decimal("1.50"), "1.50"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00Z"),
        (datetime(2026, 1, 2, 3, 4, 5, 678901), "2026-01-02T03:04:05.678901"),
        (date(2026, 1, 2), "2026-01-02"),
        (time(3, 4), "03:04:00"),
        (timedelta(days=1, hours=2), "P1DT2H"),
        (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (Path("/tmp/a"), "/tmp/a"),  # noqa: S108 - nothing is written there
        (ip_address("127.0.0.1"), "127.0.0.1"),
        (Colour.RED, "red"),
        ({Colour.RED: 1, date(2026, 1, 2): 2, b"k": 3}, {"red": 1, "2026-01-02": 2, "k": 3}),
        (gettext_lazy("no such text"), "no such text"),
        (b"plain", "plain"),
        (deque([1]), [1]),
        (range(2), [0, 1]),
        ({"a": 1}.keys(), ["a"]),
        (Point(1, Decimal("2.5")), {"x": 1, "y": "2.5"}),
        ([Order(number=1, at=datetime(2026, 1, 2, tzinfo=UTC))], [{"orderNumber": 1, "at": "2026-01-02T00:00:00Z"}]),
        (Holder(Order(number=1), Silent()), {"inner": {"orderNumber": 1, "at": None}, "other": NO_FORM}),
        (Loose(what=Silent(), data=BINARY), {"what": NO_FORM, "data": NO_FIELD_FORM}),
        ({1: "a", "1": "b"}, {"1": "a", "1 (str)": "b"}),
        (Silent(), NO_FORM),
        (Silent, "[an object of type type, which has no JSON form]"),
        ({Silent(): 1}, {NO_FORM: 1}),
        (BINARY, f"[2 bytes, sha256 {hashlib.sha256(BINARY).hexdigest()}]"),
    ],
    ids=type,
)
@pytest.mark.covers("fc:A9")
def test_what_is_not_json_has_the_form_that_pydantic_writes(value: Any, kept: Any) -> None:
    assert cut(value, LIMIT) == kept


def test_a_text_that_is_too_long_says_how_long_it_was_and_which() -> None:
    text = "ab" * 3_000_000
    kept = cut(text, LIMIT)
    assert (
        kept
        == text[: LIMIT - 2] + f"{TRUNCATED} {len(text)} characters, sha256 {hashlib.sha256(text.encode()).hexdigest()}"
    )


def test_what_is_left_out_is_counted_and_the_shape_stays() -> None:
    kept = cut(list(range(100_000)), LIMIT)
    assert kept[:3] == [0, 1, 2] and kept[-1] == f"{TRUNCATED} {100_000 - len(kept) + 1} more"
    kept = cut({f"key {number}": "x" * 50 for number in range(100_000)}, LIMIT)
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
    text = json.dumps(cut(make(), LIMIT), ensure_ascii=False)
    assert TRUNCATED in text and len(text) < 20 * LIMIT


def test_one_object_at_two_places_is_no_cycle() -> None:
    shared = {"a": 1}
    assert cut([shared, shared], LIMIT) == [shared, shared]


def test_a_huge_text_is_not_copied() -> None:
    text = "x" * 50_000_000
    tracemalloc.start()
    cut({"text": text}, LIMIT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


@pytest.mark.covers("fc:A9")
def test_a_generator_is_no_value_and_an_iterator_is_listed() -> None:
    for value in ((x for x in [1]), [(x for x in [1])], iter([(x for x in [1])])):
        with pytest.raises(Unfinished, match="Return a list"):
            cut(value, LIMIT)
    for value in (iter([1]), map(int, ["1"]), filter(None, [0, 1])):
        assert cut(value, LIMIT) == [1]
