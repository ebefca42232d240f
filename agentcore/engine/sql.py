"""The engine's connection, and what PostgreSQL and SQLite spell differently in its own statements."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Field

from ..models import Run
from ..streams import dialect


def alias() -> str:
    """Return the database that holds the runs."""
    return router.db_for_write(Run)


def connection() -> BaseDatabaseWrapper:
    """Return this thread's connection to it."""
    return connections[alias()]


def clock() -> str:
    """Return the expression for the database's time: the only clock the engine reads."""
    return dialect.clock(connection())


def later(seconds: str = "%s") -> str:
    """Return the expression for a time some seconds (by default one parameter) after the database's time."""
    return dialect.later(connection(), seconds)


def seconds_since(moment: str) -> str:
    """Return the expression for the seconds from a time (a column) to the database's time."""
    return dialect.seconds_since(connection(), moment)


def seconds_until_lapse() -> str:
    """Return the expression for the seconds a run has been running, to now or to where its lease ran out before."""
    return dialect.seconds_since(connection(), "running_since", "lease_expires_at")


def uuid(value: UUID) -> Any:
    """Return an id as this database's driver takes it."""
    return dialect.id_in(connection(), value)


def value(column: str, value: Any) -> Any:
    """Return a run column's value as this database's driver takes it."""
    field: Field[Any, Any] = next(item for item in Run._meta.concrete_fields if item.column == column)
    return field.get_db_prep_save(value, connection())
