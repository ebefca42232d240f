"""What a pydantic model or a dataclass hides is shown to nobody, though it stands beside what is."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import pydantic.dataclasses
import pytest
from django.core.exceptions import SynchronousOnlyOperation
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    RootModel,
    SecretStr,
    computed_field,
    field_serializer,
    model_serializer,
)

from agentcore.exceptions import Unfinished
from agentcore.values.bounded import cut
from agentcore.values.serialized import NO_FORM

pytestmark = [pytest.mark.once, pytest.mark.covers("fc:A9")]

LIMIT = 2000
HIDDEN = "hunter2"
NO_CONNECTION = "[an object of type Connection, which has no JSON form]"
Masked = Annotated[str, PlainSerializer(lambda text: "masked", when_used="json")]


class Connection:
    """Has no JSON form; its text would tell all."""

    def __str__(self) -> str:
        return HIDDEN


class Report(BaseModel):
    """Hides in each way that a field can."""

    conn: Any = Field(default_factory=Connection)
    password: str = Field(HIDDEN, exclude=True)
    masked: Masked = HIDDEN
    secret: SecretStr = SecretStr(HIDDEN)
    number: int = Field(7, serialization_alias="orderNumber")

    @field_serializer("number")
    def _doubled(self, number: int) -> int:
        return number * 2

    @computed_field(alias="isLarge")  # type: ignore[prop-decorator]
    @property
    def large(self) -> bool:
        return self.number > 5


REPORT = {"masked": "masked", "secret": "**********", "orderNumber": 14, "isLarge": True}


class Blob(Report):
    """Holds what pydantic cannot write at all."""

    data: bytes = b"\xff\x00"


class Extra(Report):
    """Takes anything."""

    model_config = ConfigDict(extra="allow")


class Whole(BaseModel):
    """Decides itself what is shown of it."""

    conn: Any = Field(default_factory=Connection)
    data: bytes = b"\xff\x00"
    password: str = HIDDEN

    @model_serializer
    def _only_some(self) -> dict[str, Any]:
        return {"conn": self.conn, "data": self.data}


class Many(RootModel[list[Report]]):
    """A model that is a list."""


class Pair(NamedTuple):
    """Holds a model."""

    first: Report
    second: int


@pydantic.dataclasses.dataclass
class Card:
    """A dataclass of pydantic's."""

    conn: Any = dataclasses.field(default_factory=Connection)
    password: str = Field(HIDDEN, exclude=True)
    masked: Masked = HIDDEN


@dataclasses.dataclass
class Plain:
    """A dataclass of Python's, with words for pydantic."""

    conn: Connection
    password: Annotated[str, Field(exclude=True)]
    masked: list[Masked]


@dataclasses.dataclass
class Holder:
    """A dataclass of Python's that holds others."""

    inner: Any


@pytest.mark.parametrize(
    ("make", "kept"),
    [
        (Report, {"conn": NO_CONNECTION, **REPORT}),
        (lambda: Report(conn=1), {"conn": 1, **REPORT}),
        (lambda: Report(conn=Report()), {"conn": {"conn": NO_CONNECTION, **REPORT}, **REPORT}),
        (lambda: Report(conn={"a": [Report()]}), {"conn": {"a": [{"conn": NO_CONNECTION, **REPORT}]}, **REPORT}),
        (Blob, {"conn": NO_CONNECTION, **REPORT, "data": NO_FORM}),
        (lambda: Extra(more=1), {"conn": NO_CONNECTION, **REPORT, "more": 1}),
        (Whole, "[an object of type Whole, which has no JSON form]"),
        (lambda: Whole(data=b"text"), {"conn": NO_CONNECTION, "data": "text"}),
        (lambda: Many([Report()]), [{"conn": NO_CONNECTION, **REPORT}]),
        (lambda: Pair(Report(), 1), [{"conn": NO_CONNECTION, **REPORT}, 1]),
        (Card, {"conn": NO_CONNECTION, "masked": "masked"}),
        (lambda: Plain(Connection(), HIDDEN, [HIDDEN]), {"conn": NO_CONNECTION, "masked": ["masked"]}),
        (lambda: Holder(Plain(Connection(), HIDDEN, [])), {"inner": {"conn": NO_CONNECTION, "masked": []}}),
        (lambda: Holder([Report()]), {"inner": [{"conn": NO_CONNECTION, **REPORT}]}),
        (lambda: SecretStr(HIDDEN), "**********"),
    ],
)
def test_a_field_without_a_form_opens_no_other(make: Callable[[], Any], kept: Any) -> None:
    for wrap, unwrap in ((lambda value: value, lambda found: found), (lambda v: {"a": [v]}, lambda f: f["a"][0])):
        found = unwrap(cut(wrap(make()), LIMIT))
        assert found == kept
        assert HIDDEN not in json.dumps(found)


def test_an_object_within_itself_is_written_as_far_as_it_goes() -> None:
    report = Report()
    report.conn = report
    found = cut(report, LIMIT)
    assert found == {"conn": NO_FORM, **REPORT}
    holder = Holder(None)
    holder.inner = holder
    assert cut(holder, LIMIT) == {"inner": "…[truncated]"}


def test_what_an_object_holds_is_bounded_like_the_rest() -> None:
    rows = [Holder("x" * 100) for _ in range(1000)]
    text = json.dumps(cut(Report(conn=Holder(rows)), LIMIT), ensure_ascii=False)
    assert len(text) < 4 * LIMIT


class Lazy(BaseModel):
    """Asks the database, or forgets to await, when it is written."""

    data: bytes = b"\xff"
    error: Any = Field(exclude=True)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def rows(self) -> int:
        raise self.error


@pytest.mark.parametrize("error", [SynchronousOnlyOperation("in a thread, please"), Unfinished("not awaited")])
def test_what_must_be_written_elsewhere_is_no_field_without_a_form(error: Exception) -> None:
    with pytest.raises(type(error)):
        cut(Lazy(error=error), LIMIT)


def test_a_coroutine_in_a_model_is_work_that_is_not_done() -> None:
    async def work() -> None: ...

    with pytest.raises(Unfinished):
        cut(Report(conn=work()), LIMIT)
