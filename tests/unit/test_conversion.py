"""What is declared, as JSON and back: stored = shown = digested = approved = given."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import IntEnum
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import AfterValidator, Base64Bytes, BeforeValidator, Field, Json, PlainSerializer

from agentcore import tool
from agentcore.exceptions import ModelRetry
from tests.unit.declared import (
    BIG,
    NOBODY,
    NOW,
    OPAQUE,
    Area,
    Camel,
    Cat,
    Closed,
    Colour,
    Dog,
    Level,
    Opaque,
    Open,
    Order,
    Parcel,
    Point,
    Strict,
    Tags,
    Tree,
    taking,
    there_and_back,
)

pytestmark = pytest.mark.once


@pytest.mark.covers("fc:A2", "fc:A3", "fc:A5", "fc:B8")
@pytest.mark.parametrize(
    ("annotation", "said", "stored", "given"),
    [
        (datetime, "2026-01-02T03:04:05.000006+00:00", "2026-01-02T03:04:05.000006Z", NOW),
        (date, "2026-01-02", "2026-01-02", date(2026, 1, 2)),
        (time, "03:04", "03:04:00", time(3, 4)),
        (timedelta, 90, "PT1M30S", timedelta(seconds=90)),
        (Decimal, 0.1, "0.1", Decimal("0.1")),
        (Decimal, "1.10", "1.10", Decimal("1.10")),
        (UUID, "A" * 32, "a" * 8 + "-aaaa-aaaa-aaaa-" + "a" * 12, UUID("a" * 32)),
        (Colour, "red", "red", Colour.RED),
        (Level, 3, 3, Level.HIGH),
        (bytes, "ä", "ä", "ä".encode()),
        (Base64Bytes, "YWJj", "YWJj", b"abc"),
        (Path, "a/../b", "a/../b", Path("a/../b")),
        (IPv4Address, "127.0.0.1", "127.0.0.1", IPv4Address("127.0.0.1")),
        (int, BIG, BIG, BIG),
        (int, str(BIG), BIG, BIG),
        (int, 10**300, 10**300, 10**300),
        (list[int], [-BIG], [-BIG], [-BIG]),
        (int | str, BIG, BIG, BIG),
        (int | str, str(BIG), str(BIG), str(BIG)),
        (Any, {"n": BIG}, {"n": BIG}, {"n": BIG}),
        (float, -0.0, 0, 0.0),
        (float, 1, 1, 1.0),
        (float, 1e22, 1e22, 1e22),
        (bool, "yes", True, True),
        (set[str], ["b", "a", "b"], ["a", "b"], {"a", "b"}),
        (frozenset[Colour], ["red"], ["red"], frozenset({Colour.RED})),
        (dict[date, set[int]], {"2026-01-02": [3, 1, 2]}, {"2026-01-02": [1, 2, 3]}, {date(2026, 1, 2): {1, 2, 3}}),
        (dict[int, str], {"10": "x", "9": "y"}, {"10": "x", "9": "y"}, {9: "y", 10: "x"}),
        (OrderedDict[str, int], {"b": 1, "a": 2}, {"b": 1, "a": 2}, OrderedDict(a=2, b=1)),
        (Mapping[str, Decimal], {"a": "1"}, {"a": "1"}, {"a": Decimal(1)}),
        (Sequence[date], ["2026-01-02"], ["2026-01-02"], [date(2026, 1, 2)]),
        (tuple[int, ...], [1, 2], [1, 2], (1, 2)),
        (deque[int], [1, 2], [1, 2], deque([1, 2])),
        (Point, [1], [1, 0], Point(1)),
        (Order, {"number": "A", "paid": True}, {"number": "A", "paid": True}, {"number": "A", "paid": True}),
        (Parcel, {"weight": "1.5"}, {"weight": "1.5", "to": None}, Parcel(Decimal("1.5"))),
        (Parcel | None, None, None, None),
        (Camel, {"zipCode": "1"}, {"zipCode": "1", "houseNumber": 1}, Camel(zip_code="1")),
        (Camel, {"zip_code": "1"}, {"zipCode": "1", "houseNumber": 1}, Camel(zip_code="1")),
        (list[Cat | Dog], [{"kind": "dog", "tricks": ["b", "a"]}], [{"kind": "dog", "tricks": ["a", "b"]}], None),
        (Annotated[Cat | Dog, Field(discriminator="kind")], {"kind": "cat"}, {"kind": "cat", "lives": 9}, None),
        (Area, {"width": 2, "height": 3}, {"width": 2, "height": 3}, Area(width=2, height=3)),
        (Open, {"name": "a", "more": [1]}, {"name": "a", "more": [1]}, Open(name="a", more=[1])),  # type: ignore[call-arg]
        (Closed, {"name": "a", "more": [1]}, {"name": "a"}, Closed(name="a")),
        (Strict, {"on": "2026-01-02", "key": "a" * 32}, {"on": "2026-01-02", "key": str(UUID("a" * 32))}, None),
        (Tree, {"name": "a", "below": [{"name": "b"}]}, {"name": "a", "below": [{"name": "b", "below": []}]}, None),
        (Tags, ["b", "a"], ["a", "b"], Tags({"a", "b"})),
        (Json[Any], '{"a": 1}', '{"a":1}', {"a": 1}),
        (list[Json[list[int]]], ["[1]"], ["[1]"], [[1]]),
        (Annotated[str, AfterValidator(str.strip)], " x ", "x", "x"),
        (Annotated[int, BeforeValidator(lambda value: int(str(value).strip("€ ")))], "5 €", 5, 5),
        (Annotated[Decimal, PlainSerializer(float, return_type=float)], "0.25", 0.25, Decimal("0.25")),
        (Annotated[float, Field(ge=0, le=1)], "0.5", 0.5, 0.5),
        (Annotated[int, Field(strict=True)], 5, 5, 5),
        (Literal["a", 1], 1, 1, 1),
    ],
)  # fmt: skip
def test_the_body_is_given_what_is_stored(annotation: Any, said: Any, stored: Any, given: Any) -> None:
    found, got = there_and_back(taking(annotation), said)
    assert found == stored and type(found) is type(stored)
    if given is not None:
        assert got == given and type(got) is type(given)


class Size(IntEnum):
    """Has words of its own for what it does not know."""

    SMALL = 1

    @classmethod
    def _missing_(cls, value: object) -> Any:
        return {}[value]


def test_a_key_that_a_validator_drops_may_be_refused_in_any_way_by_its_type() -> None:
    known = BeforeValidator(lambda given: {key: value for key, value in given.items() if key == "1"})
    found = there_and_back(taking(Annotated[dict[Size, int], known]), {"1": 2, "zzz": 3})
    assert found == ({"1": 2}, {Size.SMALL: 2})


def test_a_type_without_equality_is_given_as_it_is_stored() -> None:
    stored, given = there_and_back(taking(OPAQUE), "x")
    assert (stored, type(given), given.text) == ("x", Opaque, "x")


def test_an_iterable_is_checked_before_it_is_recorded() -> None:
    stored = taking(Iterable[int]).validate({"value": ["1", 2]})
    assert stored == {"value": [1, 2]}
    assert list(taking(Iterable[int]).bind(stored, NOBODY)()) == [1, 2]
    with pytest.raises(ModelRetry, match="valid integer"):
        taking(Iterable[int]).validate({"value": ["x"]})


@pytest.mark.covers("fc:A3")
def test_an_alias_is_the_only_name_anybody_sees() -> None:
    @tool
    def post(zip_code: str = Field(alias="zipCode"), city: str = Field("Bern", alias="theCity")) -> Any:
        """Post."""
        return (zip_code, city)

    assert set(post.schema["properties"]) == {"zipCode", "theCity"} and post.schema["required"] == ["zipCode"]
    stored = post.validate({"zipCode": "8000", "theCity": "Zürich"})
    assert stored == {"zipCode": "8000", "theCity": "Zürich"}
    assert post.bind(stored, NOBODY)() == ("8000", "Zürich")
    assert post.bind(post.validate({"zipCode": "1"}), NOBODY)() == ("1", "Bern")
    with pytest.raises(ModelRetry, match="zipCode: "):
        post.validate({"zip_code": "1"})


@pytest.mark.covers("fc:A2")
def test_a_validator_may_speak_to_the_model() -> None:
    def known(text: str) -> str:
        raise ModelRetry(f"There is no {text}. Ask for the list")

    with pytest.raises(ModelRetry, match=r"The arguments of take are not valid: There is no x. Ask for the list"):
        taking(Annotated[str, AfterValidator(known)]).validate({"value": "x"})


@pytest.mark.covers("fc:A4")
@pytest.mark.parametrize(
    "name",
    (
        "model_extra model_dump model_config model_fields model_validate model_post_init schema json copy dict "
        "validate construct fields self cls args kwargs function arguments ctx target type name class_ root field init "
        "KW_ONLY value keys object dataclasses"
    ).split(),
)
def test_a_parameter_may_have_any_name(name: str) -> None:
    body: dict[str, Any] = {}
    exec(f"def take({name}: int, other: int = 2): return ({name}, other)", body)
    made = tool(body["take"])
    assert set(made.schema["properties"]) == {name, "other"}
    assert made.bind(made.validate({name: "1"}), NOBODY)() == (1, 2)
    assert made(**{name: 7}) == (7, 2)
