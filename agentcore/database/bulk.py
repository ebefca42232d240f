"""Many rows in one statement: a list of rows becomes a table that an INSERT or UPDATE reads from.

The rows are one JSON parameter, so a statement's text stays the same however many there
are, and the database keeps its plan. What follows the table reads the same on both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.models import DateTimeField, Field, ForeignKey, JSONField, Model, UUIDField
from pydantic_core import to_json

__all__ = [
    "Column",
    "Statement",
    "Table",
    "an_id",
    "column",
    "execute",
    "extra",
    "run",
    "with_rows",
]

Rows = list[tuple[Any, ...]]

_ID: UUIDField[Any, Any] = UUIDField()


@dataclass(frozen=True)
class Column:
    """One column of the table: its name and type."""

    name: str
    type: str
    field: Field[Any, Any] | None = None

    @property
    def target(self) -> Field[Any, Any] | None:
        """The field that says how a value is stored: of a reference, that of the key."""
        return self.field.target_field if isinstance(self.field, ForeignKey) else self.field

    @property
    def prepared(self) -> Field[Any, Any] | None:
        """The field that prepares a value before it is JSON, if one must: a user's key may be any object."""
        if isinstance(self.field, ForeignKey) and type(self.target) is not UUIDField:
            return self.target
        # SQLite stores times and JSON as text, which Django's field writes.
        is_text = connection.vendor == "sqlite" and isinstance(self.field, (DateTimeField, JSONField))
        return self.field if is_text else None

    def of_json(self) -> str:
        """Return the expression by which SQLite reads the column of an object of JSON."""
        value = f"json_extract(value, '$.{self.name}')"
        return f"replace({value}, '-', '')" if type(self.target) is UUIDField else value


class Table:
    """Rows given to a statement as one parameter, and the query that makes a table of them."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = tuple(columns)
        self.names = [item.name for item in columns]

    @cached_property
    def _prepared(self) -> list[tuple[str, Field[Any, Any]]]:
        # When it is first asked for: which database there is, is not known while modules are loaded.
        return [(item.name, item.prepared) for item in self.columns if item.prepared is not None]

    def query(self) -> str:
        """Return the query that makes the table of its parameter.

        The first column is never null. PostgreSQL takes any such list for a hundred rows, and would rather read the
        whole of a table that is small when the plan is made. With a condition that it takes for hard to meet, it
        looks each row up by its index.
        """
        if connection.vendor == "sqlite":
            columns = ", ".join(f'{item.of_json()} AS "{item.name}"' for item in self.columns)
            return f"SELECT {columns} FROM json_each(%s) WHERE 1"
        types = ", ".join(f'"{item.name}" {item.type}' for item in self.columns)
        return f'SELECT * FROM json_to_recordset(%s::json) AS rows({types}) WHERE num_nulls("{self.names[0]}") = 0'

    def json(self, rows: Sequence[Sequence[Any]]) -> str:
        """Return that parameter."""
        named = [dict(zip(self.names, row, strict=True)) for row in rows]
        for name, field in self._prepared:
            for row in named:
                if (value := row[name]) is not None:
                    row[name] = field.get_db_prep_save(value, connection)
        return to_json(named).decode()


class Statement(Table):
    """A statement that reads the table `wanted`, whose columns these are; made once, and asked for many times."""

    def __init__(self, text: str, columns: Sequence[Column]) -> None:
        super().__init__(columns)
        self.text = text


@cache
def column(model: type[Model], name: str) -> Column:
    """Return the column of a model's field."""
    field: Field[Any, Any] = model._meta.get_field(name)  # type: ignore[assignment]
    # Without its length: what is too long is refused by the column, and not cut on the way.
    kind = str(field.db_parameters(connection)["type"]).partition("(")[0]
    return Column(str(field.column), kind, field)


def an_id(name: str) -> Column:
    """Return a column for identifiers that is no field's."""
    return Column(name, "uuid", _ID)


def extra(name: str, kind: str) -> Column:
    """Return a column that is no field's: a condition, a number of seconds."""
    return Column(name, kind)


def execute(statement: Statement, rows: Sequence[Sequence[Any]]) -> Rows:
    """Run a statement, and return what it returns."""
    return run(with_rows(statement), [statement.json(rows)])


@cache
def with_rows(statement: Statement, condition: str = "", **beside: Table) -> str:
    """Return the text of a statement with the table of its rows, which is one parameter, and those of others beside it.

    The rows are there if a condition is met, given as ` AND …`.
    """
    made_once = "MATERIALIZED " if connection.vendor == "sqlite" else ""
    others = "".join(f", {name} AS {made_once}({table.query()})" for name, table in beside.items())
    return f"WITH wanted AS {made_once}({statement.query()}{condition}){others} {statement.text}"


def run(text: str, params: Sequence[Any]) -> Rows:
    """Run a statement on the driver's own cursor; neither Django's log of queries nor `execute_wrapper` sees it.

    On PostgreSQL its parameters are bound by the server, where Django's cursor would write them into the text: so the
    text is the same every time, and the server keeps its plan where `prepare_threshold` lets psycopg ask for it.
    """
    wrapper = connections[DEFAULT_DB_ALIAS]  # once: `connection` looks for it anew at each use
    wrapper.validate_no_broken_transaction()
    wrapper.ensure_connection()
    with wrapper.wrap_database_errors:
        if wrapper.vendor == "sqlite":
            cursor = wrapper.connection.execute(_marked(text), params)
        else:
            import psycopg  # noqa: PLC0415 - only where the database is PostgreSQL

            cursor = psycopg.Cursor(wrapper.connection).execute(text, params)
        return cursor.fetchall() if cursor.description else []


@lru_cache(512)
def _marked(text: str) -> str:
    """Return a text with the marks for parameters that SQLite's driver takes."""
    return text.replace("%s", "?").replace("%%", "%")
