"""Strategies for what an app may declare (parameters, nested models) and for what a model may send to it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal
from uuid import UUID

from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    TypeAdapter,
    create_model,
)

from agentcore.values import jsontext

COLLIDING = ["model_extra", "schema", "json", "copy", "self", "validate", "model_config", "ctx", "p0", "p1", "p2"]


class Size(Enum):
    SMALL = "s"
    LARGE = 10


@dataclass(frozen=True)
class Declared:
    """A type, and the JSON that a model may send for it; of a signature, its parameters."""

    type: Any
    said: st.SearchStrategy[Any]
    fields: tuple[tuple[str, Any, Any], ...] = ()

    def function(self, received: list[dict[str, Any]]) -> Callable[..., None]:
        """A function with this signature, which notes what it is given."""

        def take(**arguments: Any) -> None:
            received.append(arguments)

        kind = inspect.Parameter.KEYWORD_ONLY
        parameters = [inspect.Parameter(name, kind, default=default) for name, _, default in self.fields]
        take.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        take.__annotations__ = {name: annotation for name, annotation, _ in self.fields}
        return take

    def dump(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """What was received as JSON, each argument by its own annotation: not through agentcore's conversion."""
        found = {}
        for name, annotation, default in self.fields:
            alias = default.alias if isinstance(default, type(Field())) and default.alias else name
            dumped = TypeAdapter(annotation).dump_python(arguments[name], mode="json", by_alias=True, round_trip=True)
            found[alias] = sorted(dumped, key=jsontext.canonical) if isinstance(arguments[name], set) else dumped
        return found


TEXT = st.text(max_size=8)
INTEGERS = st.one_of(st.integers(-5, 5), st.integers(-(2**70), 2**70))
LEAVES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, INTEGERS),
    (bool, st.booleans()),
    (str, TEXT),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False).map(str)),
    (date, st.dates().map(date.isoformat)),
    (datetime, st.datetimes().map(datetime.isoformat)),
    (time, st.times().map(time.isoformat)),
    (timedelta, st.integers(-(10**6), 10**6)),
    (UUID, st.uuids().map(str)),
    (Size, st.sampled_from([size.value for size in Size])),
    (Literal["a", 1, None], st.sampled_from(["a", 1, None])),
    (bytes, TEXT),
    (Any, st.recursive(st.none() | st.booleans() | INTEGERS | TEXT, st.lists, max_leaves=4)),
    # Converters that come back the same.
    (Annotated[str, AfterValidator(str.upper)], st.text("abcXYZ", max_size=4)),
    (Annotated[int, BeforeValidator(lambda value: int(str(value).strip(" €")))], st.integers(0, 9).map("{} €".format)),
    (Annotated[date, PlainSerializer(lambda on: on.strftime("%Y-%m-%d"), return_type=str)],
     st.dates(min_value=date(1000, 1, 1)).map(date.isoformat)),
    (Annotated[int, Field(ge=0, le=100)], st.integers(0, 100)),
]  # fmt: skip

leaves = st.sampled_from(LEAVES).map(lambda pair: Declared(*pair))
anything = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def _containers(inner: st.SearchStrategy[Declared]) -> st.SearchStrategy[Declared]:
    return st.one_of(
        inner.map(lambda item: Declared(list[item.type], st.lists(item.said, max_size=3))),
        inner.map(lambda item: Declared(dict[str, item.type], st.dictionaries(TEXT, item.said, max_size=2))),
        inner.map(lambda item: Declared(item.type | None if item.type is not Any else Any, item.said | st.none())),
        st.lists(leaves.filter(lambda item: item.type is not Any), min_size=2, max_size=3).map(_union),
        models(inner),
    )


def _union(members: list[Declared]) -> Declared:
    return Declared(reduce(or_, [member.type for member in members]), st.one_of([member.said for member in members]))


@st.composite
def models(draw: st.DrawFn, inner: st.SearchStrategy[Declared] = leaves) -> Declared:
    """A pydantic model of up to three fields, some with an alias, some with a default."""
    members = draw(st.lists(inner, min_size=1, max_size=3))
    aliased, optional = draw(st.booleans()), draw(st.booleans())
    fields, said = {}, {}
    for number, member in enumerate(members):
        alias = f"theField{number}" if aliased else None
        default = [] if optional and number == 0 and draw(st.booleans()) else ...
        declared = list[member.type] if default == [] else member.type
        fields[f"field_{number}"] = (declared, Field(default, alias=alias))
        said[alias or f"field_{number}"] = st.lists(member.said, max_size=2) if default == [] else member.said
    made = create_model("Made", __config__=ConfigDict(extra=draw(st.sampled_from(["forbid", "ignore"]))), **fields)
    return Declared(made, st.fixed_dictionaries(said))


types = st.recursive(leaves, _containers, max_leaves=4)
sets = st.sampled_from(LEAVES[2:6]).map(lambda pair: Declared(set[pair[0]], st.lists(pair[1], max_size=3)))


@st.composite
def signatures(draw: st.DrawFn) -> Declared:
    """The parameters of a function: up to three, under names that collide with much, some aliased, some optional."""
    names = draw(st.lists(st.sampled_from(COLLIDING), min_size=1, max_size=3, unique=True))
    fields, required, optional = [], {}, {}
    for number, name in enumerate(names):
        member = draw(types | sets)
        alias = draw(st.sampled_from([None, f"the-{number}"]))
        has_default = draw(st.booleans())
        annotation = member.type | None if has_default and member.type is not Any else member.type
        default = None if has_default else inspect.Parameter.empty
        if alias:
            default = Field(None if has_default else ..., alias=alias)
        fields.append((name, annotation, default))
        (optional if has_default else required)[alias or name] = member.said
    return Declared(None, st.fixed_dictionaries(required, optional=optional), tuple(fields))
