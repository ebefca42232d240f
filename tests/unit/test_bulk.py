"""What the rows of a statement look like on their way to PostgreSQL."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from agentcore.database import bulk
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


def test_values_travel_as_json_says_them() -> None:
    moment = datetime(2026, 11, 25, 1, 2, 3, 4, tzinfo=UTC)
    columns = [of(Message, name) for name in ("created_at", "content", "key")]
    (row,) = sent([*columns, bulk.extra("data", "text")], (moment, {"n": 2**60, "t": "ä"}, "", b"\x00\xff"))
    assert datetime.fromisoformat(row["created_at"]) == moment
    assert (row["content"], row["key"], row["data"]) == ({"n": 2**60, "t": "ä"}, "", "00ff")
