"""New rows without the ORM's constructor and `save`, which cost several times as much; no signal is sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeVar

from django.db import DEFAULT_DB_ALIAS
from django.db.models import NOT_PROVIDED, Model
from django.db.models.base import ModelState

from . import bulk

__all__ = ["inserting", "new"]

M = TypeVar("M", bound=Model)


def new(model: type[M], /, **columns: Any) -> M:
    """Return a row that is not stored yet, by its columns (`run_id`, not `run`); the others have their defaults."""
    fixed, made = _defaults(model)
    row = model.__new__(model)
    row.__dict__.update(fixed, _state=ModelState(), **columns)
    for name, make in made:
        if name not in columns:
            row.__dict__[name] = make()
    return row


@cache
def _defaults(model: type[Model]) -> tuple[dict[str, Any], list[tuple[str, Callable[[], Any]]]]:
    """Return the defaults of a model's columns: those that are the same for every row, and those that are made."""
    fixed, made = {}, []
    for field in model._meta.concrete_fields:
        if callable(field.default) and field.default is not NOT_PROVIDED:
            made.append((field.attname, field.default))
        else:
            fixed[field.attname] = field.get_default()
    return fixed, made


def inserting(rows: Sequence[Model]) -> bulk.Part:
    """Return the statement that inserts rows of one model; they count as stored from now on.

    No signal is sent, and nothing is made up: what the database has a default for must be given.
    """
    model = type(rows[0])
    names, values = _columns(model)
    for row in rows:
        row._state.adding, row._state.db = False, DEFAULT_DB_ALIAS
    return bulk.Part(bulk.inserting(model, names), [[getattr(row, value) for value in values] for row in rows])


@cache
def _columns(model: type[Model]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    fields = model._meta.concrete_fields
    return tuple(field.name for field in fields), tuple(field.attname for field in fields)
