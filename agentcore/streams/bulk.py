"""Many rows in one statement: a list of rows becomes a table that an INSERT or UPDATE reads from.

PostgreSQL gets one binary array a column, however many rows there are, so the statement's text stays the same;
SQLite gets the rows as VALUES. What follows the table reads the same on both.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Field, JSONField, Model
from django.db.models.fields import CharField, TextField

__all__ = ["Column", "column", "execute", "extra", "insert"]

_VARIABLES = 900  # SQLite's oldest limit is 999


@dataclass(frozen=True)
class Column:
    """One column of the table: its name, how its values travel, and what they are cast to."""

    name: str
    array: str
    cast: str
    field: Field[Any, Any] | None

    def value(self, connection: BaseDatabaseWrapper, value: Any) -> Any:
        """Return a value as this database's driver takes it."""
        if value is None:
            return None
        if connection.vendor != "postgresql":
            return value if self.field is None else self.field.get_db_prep_save(value, connection)
        if isinstance(self.field, JSONField):
            return json.dumps(value, cls=self.field.encoder)
        # A StrEnum is text; the driver would write its name.
        return str(value) if isinstance(self.field, CharField | TextField) else value

    def read(self, connection: BaseDatabaseWrapper, table: str) -> str:
        """Return the expression that reads the column of `table` in its own type."""
        name = f'{table}."{self.name}"'
        return f"CAST({name} AS {self.cast})" if self.cast and connection.vendor == "postgresql" else name


_columns: dict[tuple[type[Model], str, str], Column] = {}


def column(connection: BaseDatabaseWrapper, model: type[Model], name: str) -> Column:
    """Return the column of a model's field."""
    key = (model, name, connection.vendor)
    known = _columns.get(key)
    if known is None:
        field: Field[Any, Any] = model._meta.get_field(name)  # type: ignore[assignment]
        # Without its length: a cast to varchar(n) would cut silently what the column refuses.
        kind = str(field.db_parameters(connection)["type"]).partition("(")[0]
        is_json = isinstance(field, JSONField)
        array, cast = ("text", kind) if is_json else (kind, "")
        known = _columns[key] = Column(str(field.column), array, cast, field)
    return known


def extra(name: str, kind: str) -> Column:
    """Return a column that is no field's: a condition, a number of seconds."""
    return Column(name, kind, "", None)


def execute(
    connection: BaseDatabaseWrapper,
    statement: str,
    columns: Sequence[Column],
    rows: Sequence[Sequence[Any]],
    params: Sequence[Any] = (),
) -> list[tuple[Any, ...]]:
    """Run `WITH wanted(…) AS (the rows) statement` and return what it returns; many rows may take several runs.

    `statement` reads the table `wanted`; its own `params` come after the rows.
    """
    found: list[tuple[Any, ...]] = []
    for chunk in _chunks(connection, columns, rows):
        values = [[item.value(connection, value) for item, value in zip(columns, row, strict=True)] for row in chunk]
        names = ", ".join(f'"{item.name}"' for item in columns)
        if connection.vendor == "postgresql":
            arrays = ", ".join(f"%b::{item.array}[]" for item in columns)
            found += _postgres(
                connection,
                f"WITH wanted({names}) AS (SELECT * FROM unnest({arrays})) {statement}",
                [*map(list, zip(*values, strict=True)), *params],
            )
        else:
            row = f"({', '.join(['%s'] * len(columns))})"
            table = f"WITH wanted({names}) AS (VALUES {', '.join([row] * len(values))}) {statement}"
            with connection.cursor() as cursor:
                cursor.execute(table, [*(value for one in values for value in one), *params])
                found += cursor.fetchall() if cursor.description else []
    return found


def insert(
    connection: BaseDatabaseWrapper, table: str, columns: Sequence[Column], rows: Sequence[Sequence[Any]]
) -> None:
    """Insert rows with one statement."""
    names = ", ".join(f'"{item.name}"' for item in columns)
    values = ", ".join(item.read(connection, "wanted") for item in columns)
    execute(connection, f"INSERT INTO {table} ({names}) SELECT {values} FROM wanted", columns, rows)


def _chunks(
    connection: BaseDatabaseWrapper, columns: Sequence[Column], rows: Sequence[Sequence[Any]]
) -> Iterator[Sequence[Sequence[Any]]]:
    size = len(rows) if connection.vendor == "postgresql" else max(_VARIABLES // len(columns), 1)
    for start in range(0, len(rows), size or 1):
        yield rows[start : start + size]


def _postgres(connection: BaseDatabaseWrapper, statement: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Run a statement with its parameters bound by the server: Django's own cursor would write arrays into the text."""
    import psycopg  # noqa: PLC0415 - only where the database is PostgreSQL

    connection.ensure_connection()
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        cursor.execute(statement, params)
        return cursor.fetchall() if cursor.description else []
