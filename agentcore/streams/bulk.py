"""Many rows in one statement: a list of rows becomes a table that an INSERT or UPDATE reads from.

PostgreSQL gets all rows as one JSON parameter, so a statement's text and its types
stay the same however many there are; SQLite gets them as VALUES. What follows the
table reads the same on both. Inside `pipelined`, PostgreSQL is not waited for
before somebody reads what a statement returned.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BinaryField, Field, Model

__all__ = ["Column", "Returned", "column", "execute", "extra", "insert", "pipelined", "submit"]

Rows = list[tuple[Any, ...]]
Returned = Callable[[], Rows]
"""Reads what a statement returned, waiting for it if need be; raises what went wrong with it."""

_VARIABLES = 900  # SQLite's oldest limit is 999


@dataclass(frozen=True)
class Column:
    """One column of the table: its name and type; bytes travel as hexadecimal text."""

    name: str
    type: str
    field: Field[Any, Any] | None = None

    @property
    def is_bytes(self) -> bool:
        """Whether it holds bytes."""
        return isinstance(self.field, BinaryField)

    def read(self, connection: BaseDatabaseWrapper, table: str) -> str:
        """Return the expression that reads the column of `table`."""
        name = f'{table}."{self.name}"'
        return f"decode({name}, 'hex')" if self.is_bytes and connection.vendor == "postgresql" else name


_columns: dict[tuple[type[Model], str, str], Column] = {}


def column(connection: BaseDatabaseWrapper, model: type[Model], name: str) -> Column:
    """Return the column of a model's field."""
    key = (model, name, connection.vendor)
    known = _columns.get(key)
    if known is None:
        field: Field[Any, Any] = model._meta.get_field(name)  # type: ignore[assignment]
        # Without its length: what is too long is refused by the column, and not cut on the way.
        kind = str(field.db_parameters(connection)["type"]).partition("(")[0]
        known = _columns[key] = Column(str(field.column), "text" if isinstance(field, BinaryField) else kind, field)
    return known


def extra(name: str, kind: str) -> Column:
    """Return a column that is no field's: a condition, a number of seconds."""
    return Column(name, kind)


@contextmanager
def pipelined(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Send the statements of the block without waiting for each; at its end all of them have been carried out.

    Where one fails, its error comes out at the next statement that is read, or at the end.
    """
    if connection.vendor != "postgresql":
        yield
        return
    connection.ensure_connection()
    with connection.wrap_database_errors, connection.connection.pipeline():
        yield


def execute(
    connection: BaseDatabaseWrapper,
    statement: str,
    columns: Sequence[Column],
    rows: Sequence[Sequence[Any]],
    params: Sequence[Any] = (),
) -> Rows:
    """Run `WITH wanted(…) AS (the rows) statement` and return what it returns; many rows may take several runs.

    `statement` reads the table `wanted`; its own `params` come after the rows.
    """
    return submit(connection, statement, columns, rows, params)()


def submit(
    connection: BaseDatabaseWrapper,
    statement: str,
    columns: Sequence[Column],
    rows: Sequence[Sequence[Any]],
    params: Sequence[Any] = (),
) -> Returned:
    """Do what `execute` does, and leave it to the caller when to look at what it returned."""
    if connection.vendor == "postgresql":
        return _postgres(connection, statement, columns, rows, params)
    found: Rows = []
    names = ", ".join(f'"{item.name}"' for item in columns)
    places = f"({', '.join(['%s'] * len(columns))})"
    for chunk in _chunks(columns, rows):
        table = f"WITH wanted({names}) AS (VALUES {', '.join([places] * len(chunk))}) {statement}"
        values = [_prepared(connection, item, value) for row in chunk for item, value in zip(columns, row, strict=True)]
        with connection.cursor() as cursor:
            cursor.execute(table, [*values, *params])
            found += cursor.fetchall() if cursor.description else []
    return lambda: found


def insert(
    connection: BaseDatabaseWrapper, table: str, columns: Sequence[Column], rows: Sequence[Sequence[Any]]
) -> None:
    """Insert rows with one statement."""
    names = ", ".join(f'"{item.name}"' for item in columns)
    values = ", ".join(item.read(connection, "wanted") for item in columns)
    submit(connection, f"INSERT INTO {table} ({names}) SELECT {values} FROM wanted", columns, rows)


def _chunks(columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> Iterator[Sequence[Sequence[Any]]]:
    size = max(_VARIABLES // len(columns), 1)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _prepared(connection: BaseDatabaseWrapper, column: Column, value: Any) -> Any:
    return value if column.field is None or value is None else column.field.get_db_prep_save(value, connection)


def _postgres(
    connection: BaseDatabaseWrapper,
    statement: str,
    columns: Sequence[Column],
    rows: Sequence[Sequence[Any]],
    params: Sequence[Any],
) -> Returned:
    """Run a statement with its parameters bound by the server: Django's own cursor would write them into the text."""
    import psycopg  # noqa: PLC0415 - only where the database is PostgreSQL

    names = [item.name for item in columns]
    data = json.dumps([dict(zip(names, row, strict=True)) for row in rows], default=_plain)
    types = ", ".join(f'"{item.name}" {item.type}' for item in columns)
    table = f"WITH wanted AS (SELECT * FROM json_to_recordset(%s::json) AS rows({types})) {statement}"
    connection.ensure_connection()
    with connection.wrap_database_errors:
        cursor = psycopg.Cursor(connection.connection).execute(table, [data, *params])

    def returned() -> Rows:
        with connection.wrap_database_errors:
            return cursor.fetchall()

    return returned


def _plain(value: Any) -> str:
    if isinstance(value, UUID):
        return value.hex
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        return value.hex()
    raise TypeError(f"{type(value).__name__} has no place in a statement")
