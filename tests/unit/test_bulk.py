"""What the rows of a statement look like on their way to the database."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from django.db import models

from agentcore.database import bulk, dialect
from agentcore.models import Message, Run


def sent(columns: list[bulk.Column], *rows: tuple[Any, ...]) -> list[dict[str, Any]]:
    """Return the rows that a statement's one parameter holds."""
    found: list[dict[str, Any]] = json.loads(bulk.Statement("SELECT 1", columns).json(rows))
    return found


def of(model: Any, name: str) -> bulk.Column:
    return bulk.column(model, name)


def test_a_users_key_travels_as_its_own_field_stores_it() -> None:
    assert sent([of(Run, "id"), of(Run, "user")], (UUID(int=1), "7"), (UUID(int=2), None)) == [
        {"id": str(UUID(int=1)), "user_id": 7},
        {"id": str(UUID(int=2)), "user_id": None},
    ]


@pytest.mark.postgres
def test_values_travel_as_json_says_them() -> None:
    moment = datetime(2026, 11, 25, 1, 2, 3, 4, tzinfo=UTC)
    columns = [of(Message, name) for name in ("created_at", "content", "key")]
    (row,) = sent(columns, (moment, {"n": 2**60, "t": "ä"}, ""))
    assert datetime.fromisoformat(row["created_at"]) == moment
    assert (row["content"], row["key"]) == ({"n": 2**60, "t": "ä"}, "")


MOMENT = datetime(2026, 11, 25, 1, 2, 3, 4567, tzinfo=UTC)
VALUES = [
    {"created_at": MOMENT, "content": {"n": 2**70, "t": "ä \"'\\ %s ? \x01", "f": 0.1, "deep": [None, True, {}]}},
    {"created_at": None, "content": "a text", "key": "%% $.x \x02"},
    {"created_at": MOMENT, "content": None, "key": ""},
]


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.django_db
def test_values_arrive_as_the_orm_would_store_and_read_them(values: dict[str, Any]) -> None:
    names = tuple(values)
    columns = [of(Message, "id"), *(of(Message, name) for name in names)]
    by_us = bulk.execute(
        bulk.Statement("SELECT * FROM wanted WHERE id IS NOT NULL", columns), [(UUID(int=7), *values.values())]
    )
    ((key, *found),) = by_us
    assert UUID(str(key)) == UUID(int=7)
    for name, value in zip(names, found, strict=True):
        field: Any = Message._meta.get_field(name)
        if isinstance(field, models.JSONField):
            value = value and json.loads(value)
        elif isinstance(field, models.DateTimeField):
            value = value and dialect.time_out(value)
        assert value == values[name]
