"""What would not be the same when it is read back is refused: when it is declared, or before it is recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from datetime import date, datetime
from typing import Annotated, Any
from uuid import UUID

import pytest
from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    RootModel,
    SecretBytes,
    SecretStr,
    StringConstraints,
)

from agentcore import tool
from agentcore.exceptions import ModelRetry, NotKept, UserError
from tests.unit.declared import NOBODY, Opaque, taking

pytestmark = pytest.mark.once


def cents(euros: Any) -> int:
    return int(euros) * 100


class Nested(BaseModel):
    amount: Annotated[int, BeforeValidator(cents)]


class HalfBase64(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64")
    data: bytes


class WrongDefault(BaseModel):
    number: int = None  # type: ignore[assignment]


@pytest.mark.covers("fc:A2", "fc:A5")
@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        (Annotated[int, BeforeValidator(cents)], 5),
        (Annotated[int, AfterValidator(lambda value: value + 1)], 5),
        (Annotated[str, PlainSerializer(lambda text: f"<{text}>", return_type=str)], "x"),
        (Annotated[str, PlainSerializer(lambda text: "***", return_type=str)], "x"),
        (Annotated[int, PlainSerializer(lambda value: f"{value} items", return_type=str)], 5),
        (Annotated[list[int], AfterValidator(lambda items: items[::-1])], [1, 2]),
        (Annotated[list[int], PlainSerializer(lambda items: items[::-1], return_type=list)], [1, 2]),
        (Annotated[datetime, PlainSerializer(lambda at: at.date().isoformat(), return_type=str)], "2026-01-02T03:04Z"),
        (Nested, {"amount": 5}),
        (list[Nested], [{"amount": 5}]),
        (dict[str, Nested | None], {"a": {"amount": 5}}),
        (HalfBase64, {"data": "abc"}),
        (WrongDefault, {}),
        (Annotated[int, BeforeValidator(lambda value: {}["missing"])], 5),
        (Annotated[int, PlainSerializer(lambda value: {}["missing"], return_type=int)], 5),
    ],
)  # fmt: skip
def test_what_would_be_given_as_another_value_is_not_recorded(annotation: Any, said: Any) -> None:
    made = taking(annotation)
    with pytest.raises(NotKept, match="Tool take: "):
        made.validate({"value": said})


class Excluded(BaseModel):
    name: str
    secret: str = Field("", exclude=True)


class TwoNames(BaseModel):
    name: str = Field(validation_alias="in", serialization_alias="out")


class OneWay(BaseModel):
    name: str = Field(validation_alias=AliasChoices("in", "IN"))


@dataclass
class Counted:
    text: str
    count: int = field(init=False, default=0)


@dataclass
class Initialised:
    text: str
    start: InitVar[int] = 0


class Keeps(BaseModel):
    password: SecretStr


@pytest.mark.covers("fc:A2", "fc:A5")
@pytest.mark.parametrize(
    ("annotation", "default", "says"),
    [
        (SecretStr, ..., "secret"),
        (list[SecretBytes], ..., "secret"),
        (Keeps | None, None, "secret"),
        (Annotated[int, Field(exclude=True)], ..., "value is excluded"),
        (int, Field(exclude=True), "value is excluded"),
        (list[Excluded], ..., "secret is excluded"),
        (TwoNames, ..., "name is read as in and written as out"),
        (OneWay, ..., "name is read as in and written as name"),
        (int, Field(validation_alias="in"), "value is read as in and written as value"),
        (Counted, ..., "count is not both read and written"),
        (Initialised, ..., "start is not both read and written"),
        (int, None, "default of value does not fit"),
        (int, "many", "default of value does not fit"),
        (Annotated[int, BeforeValidator(cents)], 5, "stored and read again"),
        (Annotated[int, AfterValidator(lambda value: value + 1)], Field(1), "stored and read again"),
        (Callable[[int], int], ..., "no JSON Schema"),
        (Opaque, ..., "no JSON Schema"),
    ],
)
def test_what_can_be_seen_not_to_come_back_is_refused_when_it_is_declared(
    annotation: Any, default: Any, says: str
) -> None:
    with pytest.raises(UserError, match=f"Tool take: .*{says}"):
        taking(annotation, default)


@pytest.mark.covers("fc:A2")
def test_json_that_changes_is_not_recorded_where_the_values_cannot_be_compared() -> None:
    more = Annotated[Any, BeforeValidator(lambda text: Opaque(text + "!")), PlainSerializer(lambda value: value.text)]
    with pytest.raises(NotKept, match="a value is another one"):
        taking(more).validate({"value": "x"})


@pytest.mark.covers("fc:A3")
def test_two_parameters_under_one_alias_are_refused() -> None:
    def take(first: int = Field(alias="x"), second: int = Field(alias="x")) -> None: ...

    with pytest.raises(UserError, match=r"Tool take: two of its parameters have one alias. A model sees only x"):
        tool(take)


@pytest.mark.covers("fc:A2")
@pytest.mark.parametrize("number", ["nan", "-inf", "Infinity"])
def test_a_number_that_is_none_is_refused_in_a_nested_model_too(number: str) -> None:
    class Weighed(BaseModel):
        kilos: float

    with pytest.raises(ModelRetry, match="finite"):
        taking(Weighed).validate({"value": {"kilos": number}})


@pytest.mark.covers("fc:A2")
def test_a_default_is_given_as_its_annotation_says() -> None:
    stored = taking(date, "2026-01-02").validate({})
    assert stored == {"value": "2026-01-02"}
    assert taking(date, "2026-01-02").bind(stored, NOBODY)() == date(2026, 1, 2)
    made = taking(list[int], [1])
    made.bind(made.validate({}), NOBODY)().append(2)
    assert made.validate({}) == {"value": [1]}


@pytest.mark.covers("fc:A2")
def test_a_default_that_is_made_is_made_once() -> None:
    made, numbers = taking(int, Field(default_factory=iter(range(9)).__next__)), []
    stored = made.validate({})
    numbers = [made.bind(stored, NOBODY)() for _ in range(3)]
    assert numbers == [stored["value"]] * 3


@pytest.mark.covers("fc:A2")
def test_what_is_read_otherwise_since_a_deploy_is_not_given() -> None:
    stored = taking(int).validate({"value": 5})
    with pytest.raises(NotKept, match="read otherwise now"):
        taking(Annotated[int, BeforeValidator(cents)]).bind(stored, NOBODY)
    with pytest.raises(NotKept, match="not accepted any more"):
        taking(Annotated[int, Field(gt=5)]).bind(stored, NOBODY)


def test_the_schema_of_a_set_is_the_same_in_every_process() -> None:
    made = taking(set[str], set("abcdefgh"))
    assert made.schema["properties"]["value"]["default"] == sorted("abcdefgh")


class Boxes(BaseModel):
    by_number: dict[int, str] = Field(alias="byNumber")


class Numbered(RootModel[dict[int, str]]):
    pass


BOXES = {"1": "a", "01": "b"}


@pytest.mark.covers("fc:A2")
@pytest.mark.parametrize(
    ("annotation", "said", "place"),
    [
        (dict[int, str], BOXES, "value"),
        (list[dict[int, str]], [{"1": "a"}, BOXES], "value"),
        (dict[str, dict[float, str]], {"x": {"1": "a", "1.0": "b"}}, "value.x"),
        (dict[UUID, int], {str(UUID(int=10)): 1, str(UUID(int=10)).upper(): 2}, "value"),
        (dict[Annotated[str, StringConstraints(to_lower=True)], int], {"A": 1, "a": 2}, "value"),
        (dict[Annotated[str, StringConstraints(strip_whitespace=True)], int], {"a ": 1, "a": 2}, "value"),
        (Boxes, {"byNumber": BOXES}, "value.byNumber"),
        (Numbered, BOXES, "value"),
        (Numbered | None, BOXES, "value"),
    ],
)
def test_keys_that_would_become_one_are_refused(annotation: Any, said: Any, place: str) -> None:
    made = taking(annotation)
    with pytest.raises(ModelRetry, match=f"{place}: two of its keys are read as one"):
        made.validate({"value": said})


def test_a_key_that_a_validator_drops_is_no_key_that_has_become_another() -> None:
    def known(found: dict[Any, int]) -> dict[Any, int]:
        return {key: number for key, number in found.items() if number}

    made = taking(Annotated[dict[int, int], AfterValidator(known)])
    assert made.validate({"value": {"1": 1, "2": 0}}) == {"value": {"1": 1}}
    made = taking(Annotated[dict[str, int], AfterValidator(known)])
    assert made.validate({"value": {"a": 1, "b": 0}}) == {"value": {"a": 1}}


@pytest.mark.covers("fc:A2")
@pytest.mark.parametrize("said", ["a\x00", "\ud83d", float("nan"), {"a": {1}}, {1: 2}, {"\x00": 1, "\ufffd": 2}])
def test_what_would_be_stored_as_something_else_is_refused(said: Any) -> None:
    with pytest.raises(ModelRetry, match="cannot be kept as it is"):
        taking(Any).validate({"value": said})
