"""A query that is compiled once: the ORM takes longer to write the SQL of a join than to read the rows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic, TypeVar
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Model, QuerySet

from ..values.clock import offset
from ..values.ids import uuid7
from . import bulk, dialect

M = TypeVar("M", bound=Model)
T = TypeVar("T")


class Compiled(Generic[M]):
    """Reads the rows that `ask` selects by keys, which are the only parameters of its query."""

    every: ClassVar[list[Compiled[Any]]] = []
    """All there are; they are made once, in modules."""

    def __init__(self, ask: Callable[[Sequence[UUID]], QuerySet[M]]) -> None:
        self._ask = ask
        # A compiler belongs to a connection, and a connection to a thread.
        self._of_this_thread = threading.local()
        self.every.append(self)

    def prepare(self) -> None:
        """Compile the query for a single key on this thread, and so in what it forks; asks the database nothing."""
        self._kept(1)

    def read(self, keys: Sequence[UUID]) -> list[M]:
        """Return the rows there are, in no particular order."""
        count = 1 << (len(keys) - 1).bit_length()  # few queries for any number of keys: the last is asked for again
        return self._kept(count).read([*keys, *[keys[-1]] * (count - len(keys))])

    def _kept(self, count: int) -> _Kept[M]:
        known: dict[Any, _Kept[M]] = self._of_this_thread.__dict__.setdefault("known", {})
        key = (connections[DEFAULT_DB_ALIAS], count, offset())
        if key not in known:
            known[key] = _Kept(self._ask([uuid7() for _ in range(count)]), count)
        return known[key]


def _made_once(make: Callable[[Any], T]) -> Callable[[Any], T]:
    """Call `make` once, and return its first value for every later call."""
    made: list[T] = []

    def once(argument: Any) -> T:
        if not made:
            made.append(make(argument))
        return made[0]

    return once


class _Kept(Generic[M]):
    """The query for so many keys, whose compiler says the same text every time, and the keys of the moment."""

    def __init__(self, rows: QuerySet[M], count: int) -> None:
        query: Any = rows.query
        compiler = query.get_compiler(using=DEFAULT_DB_ALIAS)
        self._text, params = compiler.as_sql()
        if len(params) != count:
            raise TypeError(f"a query of {count} keys has {len(params)} parameters")
        self._params: tuple[Any, ...] = ()
        self._asked = rows
        compiler.as_sql = self._again
        # Of the same columns every time; Django would ask every field of every table for each query.
        compiler.get_converters = _made_once(compiler.get_converters)
        compiler.execute_sql = self._rows
        query.get_compiler = lambda *args, **kwargs: compiler

    def _again(self, *args: Any, **kwargs: Any) -> tuple[str, tuple[Any, ...]]:
        return self._text, self._params

    def _rows(self, *args: Any, **kwargs: Any) -> list[bulk.Rows]:
        return [bulk.run(self._text, self._params)]

    def read(self, keys: Sequence[UUID]) -> list[M]:
        self._params = tuple(dialect.id_in(key) for key in keys)
        return list(self._asked.all())
