"""What PostgreSQL and SQLite spell differently: the clock, ids and times as their drivers take and give them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper

from .models import Stream

__all__ = ["clock", "id_in", "id_out", "time_out"]

_CLOCKS = {"postgresql": "clock_timestamp()", "sqlite": "strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now')"}


def clock(connection: BaseDatabaseWrapper) -> str:
    """Return the expression for the database's time, as it is now and not as the transaction began."""
    return _CLOCKS[connection.vendor]


def id_in(connection: BaseDatabaseWrapper, value: UUID) -> Any:
    """Return an id as this database's driver takes it."""
    return Stream._meta.pk.get_db_prep_value(value, connection, prepared=False)


def id_out(value: Any) -> UUID:
    """Read an id as a driver gives it."""
    return value if isinstance(value, UUID) else UUID(value)


def time_out(value: Any) -> datetime:
    """Read a time as a driver gives it; always in UTC."""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
