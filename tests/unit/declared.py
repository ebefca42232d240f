"""Types that tests declare tools with, and a tool of one parameter."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, PrivateAttr, RootModel, computed_field
from pydantic.alias_generators import to_camel
from typing_extensions import TypedDict

from agentcore import Tool, tool
from agentcore.values import jsontext

NOBODY: Any = object()


def taking(annotation: Any, default: Any = ..., **options: Any) -> Tool:
    """A tool with one parameter, `value`, that returns what it was given."""

    def take(value: Any) -> Any:
        return value

    take.__annotations__["value"] = annotation
    if default is not ...:
        take.__defaults__ = (default,)
    return tool(take, **options) if not options else tool(**options)(take)


def there_and_back(made: Tool, said: Any) -> tuple[Any, Any]:
    """What is stored of an argument, and what the body is given; proved to be the same."""
    stored = made.validate({"value": said})
    given = made.bind(stored, NOBODY)()
    assert made.validate(stored) == stored, "what was recorded is recorded otherwise the second time"
    assert jsontext.canonical(stored) == jsontext.canonical(made.signature.dump({"value": given}))
    return stored["value"], given


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)
    zip_code: str
    house_number: int = 1


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]
    tricks: frozenset[str] = frozenset()


class Area(BaseModel):
    width: int
    height: int
    _seen: list[int] = PrivateAttr(default_factory=list)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def size(self) -> int:
        return self.width * self.height


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str


class Closed(BaseModel):
    model_config = ConfigDict(extra="ignore")
    name: str


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    on: date
    key: UUID


class Tree(BaseModel):
    name: str
    below: list[Tree] = []


class Point(NamedTuple):
    x: int
    y: int = 0


class Order(TypedDict):
    number: str
    paid: bool


@dataclass
class Parcel:
    weight: Decimal
    to: Camel | None = None


class Tags(RootModel[set[str]]):
    pass


class Opaque:
    """A type without an equality of its own."""

    def __init__(self, text: str) -> None:
        self.text = text


OPAQUE = Annotated[Any, BeforeValidator(Opaque), PlainSerializer(lambda value: value.text, return_type=str)]
BIG = 2**53 + 1
NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
