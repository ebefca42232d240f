"""What PostgreSQL and SQLite spell differently: the clock, ids and times as their drivers take and give them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import DateTimeField, Func, UUIDField
from django.db.models.sql.compiler import SQLCompiler

from ..values.clock import offset

__all__ = [
    "DbNow",
    "after",
    "character",
    "clock",
    "id_in",
    "id_out",
    "row_lock",
    "seconds_since",
    "stamp",
    "time_out",
    "utf8",
]

_ID: UUIDField[UUID, UUID] = UUIDField()
# As long as Python writes a time, so that the two compare as text.
_FORMAT = "'%%Y-%%m-%%d %%H:%%M:%%f000'"


def clock() -> str:
    """Return the expression for the database's time, as it is now and not as the transaction began."""
    ahead = offset()
    if connection.vendor == "sqlite":
        return f"strftime({_FORMAT}, 'now', '{ahead:+f} seconds')" if ahead else f"strftime({_FORMAT}, 'now')"
    return f"(clock_timestamp() + interval '{ahead:f} seconds')" if ahead else "clock_timestamp()"


def after(moment: str, seconds: str) -> str:
    """Return the expression for a time some seconds after another one, both expressions; NULL where either is."""
    if connection.vendor == "sqlite":
        moved = f"strftime({_FORMAT}, {moment}, ({seconds}) || ' seconds')"
        return f"CASE WHEN {seconds} = 0 THEN {moment} ELSE {moved} END"
    return f"{moment} + {seconds} * interval '1 second'"


def stamp(moment: str) -> str:
    """Return the expression for a time as events show it, see `values.clock.stamp`."""
    if connection.vendor == "sqlite":
        return f"replace(substr({moment}, 1, 23), ' ', 'T') || 'Z'"
    return f"""to_char(({moment}) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""


def character(code: int) -> str:
    """Return the expression for a character."""
    return f"char({code})" if connection.vendor == "sqlite" else f"chr({code})"


def utf8(text: str) -> str:
    """Return the expression for the bytes of a text."""
    return f"CAST({text} AS BLOB)" if connection.vendor == "sqlite" else f"convert_to({text}, 'UTF8')"


def seconds_since(moment: str, until: str = "") -> str:
    """Return how many seconds (never less than none) a time lies back by the database's clock; 0 where it is null.

    With `until`, another time, they are counted to that one where it has passed.
    """
    now = clock()
    if connection.vendor == "sqlite":
        end = f"MIN(julianday({now}), COALESCE(julianday({until}), julianday({now})))" if until else f"julianday({now})"
        return f"MAX(COALESCE(({end} - julianday({moment})) * 86400.0, 0.0), 0.0)"
    end = f"LEAST({now}, {until})" if until else now  # LEAST leaves out what is null
    return f"GREATEST(COALESCE(EXTRACT(EPOCH FROM {end} - {moment})::float8, 0.0), 0.0)"


class DbNow(Func):
    """The database's time in a query: what Django's `Now` is, but as it is now, and moved by a test's clock."""

    output_field = DateTimeField()

    def as_sql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, *args: Any, **context: Any
    ) -> tuple[str, tuple[str | int, ...]]:
        """Return the expression of `clock`."""
        return clock(), ()


def row_lock(table: str, *, skip_locked: bool = False) -> str:
    """Return the clause that locks the rows of `table` as an UPDATE would; SQLite has one writer, and needs none.

    Not FOR UPDATE: that would also wait for whoever inserts a row that refers to one of these.
    """
    if connection.vendor != "postgresql":
        return ""
    return f" FOR NO KEY UPDATE OF {table}" + (" SKIP LOCKED" if skip_locked else "")


def id_in(value: UUID) -> Any:
    """Return an id as this database's driver takes it."""
    return _ID.get_db_prep_value(value, connection, prepared=False)


def id_out(value: Any) -> UUID:
    """Read an id as a driver gives it."""
    return value if isinstance(value, UUID) else UUID(value)


def time_out(value: Any) -> datetime:
    """Read a time as a driver gives it; always in UTC."""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
