"""Many rows in one statement: a list of rows becomes a table that an INSERT or UPDATE reads from.

PostgreSQL gets all rows as one JSON parameter, so a statement's text and its types
stay the same however many there are; SQLite gets
the rows as VALUES. What follows the table reads the same on both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.db import connection
from django.db.models import BinaryField, Field, ForeignKey, Model, UUIDField
from pydantic_core import to_json

__all__ = [
    "Column",
    "Statement",
    "Table",
    "an_id",
    "column",
    "execute",
    "extra",
    "inserting",
    "on_postgres",
    "on_sqlite",
    "with_rows",
]

Rows = list[tuple[Any, ...]]

_ID: UUIDField[Any, Any] = UUIDField()
_VARIABLES = 900  # SQLite's oldest limit is 999


@dataclass(frozen=True)
class Column:
    """One column of the table: its name and type; bytes travel as hexadecimal text."""

    name: str
    type: str
    field: Field[Any, Any] | None = None

    @property
    def key(self) -> Field[Any, Any] | None:
        """The field that says how a key of the project's own is stored: that of a user may be any object."""
        target = self.field.target_field if isinstance(self.field, ForeignKey) else None
        return None if target is None or isinstance(target, UUIDField) else target

    def read(self, table: str) -> str:
        """Return the expression that reads the column of `table`."""
        name = f'{table}."{self.name}"'
        is_bytes = isinstance(self.field, BinaryField)
        return f"decode({name}, 'hex')" if is_bytes and connection.vendor == "postgresql" else name


class Statement:
    """A statement that reads the table `wanted`, whose columns these are; made once, and asked for many times."""

    def __init__(self, text: str, columns: Sequence[Column]) -> None:
        self.text = text
        self.columns = tuple(columns)
        self.names = [item.name for item in columns]
        self._keys = [(place, item.key) for place, item in enumerate(columns) if item.key is not None]

    def rows_of_json(self) -> str:
        """Return the query that makes PostgreSQL's table of one parameter; the first column is never null.

        It takes any such list for a hundred rows, and would rather read the whole of a table that is small when
        the plan is made. With a condition that it takes for hard to meet, it looks each row up by its index.
        """
        types = ", ".join(f'"{item.name}" {item.type}' for item in self.columns)
        return f'SELECT * FROM json_to_recordset(%s::json) AS rows({types}) WHERE num_nulls("{self.names[0]}") = 0'

    def json(self, rows: Sequence[Sequence[Any]]) -> str:
        """Return that parameter."""
        named = [dict(zip(self.names, row, strict=True)) for row in rows]
        for place, key in self._keys:
            for row in named:
                if (value := row[self.names[place]]) is not None:
                    row[self.names[place]] = key.get_db_prep_save(value, connection)
        return to_json(named, bytes_mode="hex").decode()


@dataclass(frozen=True)
class Table:
    """Rows that a statement reads beside its own, as SQLite's driver takes them."""

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@cache
def column(model: type[Model], name: str) -> Column:
    """Return the column of a model's field."""
    field: Field[Any, Any] = model._meta.get_field(name)  # type: ignore[assignment]
    # Without its length: what is too long is refused by the column, and not cut on the way.
    kind = str(field.db_parameters(connection)["type"]).partition("(")[0]
    return Column(str(field.column), "text" if isinstance(field, BinaryField) else kind, field)


def an_id(name: str) -> Column:
    """Return a column for identifiers that is no field's."""
    return Column(name, "uuid", _ID)


def extra(name: str, kind: str) -> Column:
    """Return a column that is no field's: a condition, a number of seconds."""
    return Column(name, kind)


@cache
def inserting(model: type[Model], names: tuple[str, ...], **expressions: str) -> Statement:
    """Return the statement that inserts the fields `names` of rows, and into other columns an expression."""
    columns = [column(model, name) for name in names]
    into = ", ".join([*(f'"{item.name}"' for item in columns), *expressions])
    values = ", ".join([*(item.read("wanted") for item in columns), *expressions.values()])
    return Statement(f"INSERT INTO {model._meta.db_table} ({into}) SELECT {values} FROM wanted", columns)


def execute(statement: Statement, rows: Sequence[Sequence[Any]]) -> Rows:
    """Run a statement, and return what it returns."""
    if connection.vendor == "postgresql":
        return on_postgres(with_rows(statement), [statement.json(rows)])
    return on_sqlite(statement, rows)


def on_sqlite(statement: Statement, rows: Sequence[Sequence[Any]], *beside: Table) -> Rows:
    """Run a statement that reads other tables too, which PostgreSQL has from the same statement."""
    found: Rows = []
    others = "".join(f", {_values(item.name, item.columns, item.rows)}" for item in beside)
    values_of_others = [value for item in beside for row in item.rows for value in row]
    for chunk in _chunks(statement.columns, rows):
        text = f"WITH {_values('wanted', statement.names, chunk)}{others} {statement.text}"
        values = [_prepared(item, value) for row in chunk for item, value in zip(statement.columns, row, strict=True)]
        with connection.cursor() as cursor:
            cursor.execute(text, [*values, *values_of_others])
            found += cursor.fetchall() if cursor.description else []
    return found


def _values(name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    places = f"({', '.join(['%s'] * len(columns))})"
    names = ", ".join(f'"{column}"' for column in columns)
    return f"{name}({names}) AS (VALUES {', '.join([places] * len(rows))})"


@cache
def with_rows(statement: Statement, condition: str = "") -> str:
    """Return the text of a statement for PostgreSQL, with the table of its rows, which is one parameter.

    The rows are there if a condition is met, given as ` AND …`.
    """
    return f"WITH wanted AS ({statement.rows_of_json()}{condition}) {statement.text}"


def on_postgres(text: str, params: Sequence[Any]) -> Rows:
    """Run a statement with its parameters bound by the server: Django's own cursor would write them into the text.

    So its text is the same every time, and the server keeps its plan where `prepare_threshold` lets psycopg ask for it.
    """
    import psycopg  # noqa: PLC0415 - only where the database is PostgreSQL

    connection.validate_no_broken_transaction()
    connection.ensure_connection()
    with connection.wrap_database_errors:
        cursor = psycopg.Cursor(connection.connection).execute(text, params)
        return cursor.fetchall() if cursor.description else []


def _chunks(columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> Iterator[Sequence[Sequence[Any]]]:
    size = max(_VARIABLES // len(columns), 1)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _prepared(column: Column, value: Any) -> Any:
    return value if column.field is None or value is None else column.field.get_db_prep_save(value, connection)
