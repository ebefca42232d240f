"""Values that somebody else's code gave back: of any size and shape, made into JSON data of a bounded size."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
from collections import deque
from collections.abc import (
    AsyncIterator,
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    ValuesView,
)
from concurrent.futures import Future
from enum import Enum
from typing import Any

from django.core.exceptions import SynchronousOnlyOperation
from django.db.models import Model, QuerySet
from django.db.models.query import RawQuerySet
from django.utils.functional import Promise
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from . import jsontext
from .exceptions import Unfinished

SLICE = 1_000_000
ROWS_AT_A_TIME = 200
_LISTS = (list, tuple, set, frozenset, deque, range, KeysView, ValuesView, ItemsView)


def bounded(value: Any, limit: int) -> Any:
    """Return `value` as plain JSON data of about `limit` characters at most, in the forms of pydantic.

    Models and dataclasses are written by alias; a QuerySet as the list of its rows, and a row that is an
    object of Django's as its model, key and text: what else of it a reader may know, `values()` says.
    A longer text is cut, and says how long it was and its SHA-256, so that it can be told from others;
    bytes that are no text are told by length and digest alone. What is left out of a list, rows or an
    object is counted, and what has no JSON form says so. An object within itself is cut, too.
    Raises `Unfinished` for what has not run yet.
    """
    return _Room(limit).take(value)


class _Room:
    """How many characters are left, and which containers one is in."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._path: set[int] = set()

    def take(self, value: Any) -> Any:
        """Return what fits of a value."""
        match value:
            case None | bool():
                self._left -= 4
                return value
            case Enum():
                return self.take(value.value)
            case str():
                return self._text(value)
            case int() | float():
                number = jsontext.clean(value)
                if isinstance(number, int) and abs(number) > jsontext.MAX_SAFE_INTEGER:
                    number = str(number)  # a reader in JavaScript would show another one
                self._left -= len(str(number))
                return self._text(number) if isinstance(number, str) else number
            case bytes() | bytearray() | memoryview():
                return self._text(_bytes(bytes(value)))
            case Promise():
                return self._text(str(value))
            case _:
                return self._object_of_others(value)

    def _object_of_others(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return self._inside(value, self._object)
        if isinstance(value, _LISTS):
            return self._inside(value, lambda items: self._list(items, lambda: len(items)))
        if isinstance(value, QuerySet | RawQuerySet):
            return self._inside(value, self._rows)
        if isinstance(value, Model):
            return self.take({"model": value._meta.label_lower, "pk": value.pk, "text": _str(value)})
        if isinstance(value, BaseModel) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
            return self._inside(value, lambda item: self.take(_fields(item)))
        _check_that_it_has_run(value)
        return self._text(_form(value))

    def _text(self, text: str) -> str:
        room = max(self._left, 0)
        self._left -= min(len(text), room) + 2
        if len(text) <= room:
            return jsontext.clean_text(text)
        note = f"{jsontext.TRUNCATED} {len(text)} characters, sha256 {_digest(text)}"
        return jsontext.clean_text(text[:room]) + note

    def _inside(self, value: Any, take: Callable[[Any], Any]) -> Any:
        if id(value) in self._path or len(self._path) > jsontext.MAX_DEPTH:
            self._left -= len(jsontext.TRUNCATED)
            return jsontext.TRUNCATED
        self._path.add(id(value))
        try:
            return take(value)
        finally:
            self._path.discard(id(value))

    def _list(self, items: Iterable[Any], count: Callable[[], int]) -> list[Any]:
        kept: list[Any] = []
        for item in items:
            if self._left <= 0:
                return [*kept, f"{jsontext.TRUNCATED} {count() - len(kept)} more"]
            self._left -= 1
            kept.append(self.take(item))
        return kept

    def _rows(self, rows: Any) -> list[Any]:
        """Read no more rows than there is room for; the database counts the others."""
        if isinstance(rows, RawQuerySet):
            return self._list(rows, lambda: len(rows))
        if rows._result_cache is not None:
            return self._list(rows, lambda: len(rows))
        return self._list(rows.iterator(ROWS_AT_A_TIME), rows.count)

    def _object(self, value: Mapping[Any, Any]) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for key, item in value.items():
            if self._left <= 0:
                kept[jsontext.TRUNCATED] = f"{len(value) - len(kept)} more"
                return kept
            self._left -= 2
            name = self._text(_key(key))
            while name in kept:  # 1 and "1" are two keys there
                name = f"{name} ({type(key).__name__})"
            kept[name] = self.take(item)
        return kept


def _fields(value: Any) -> Any:
    """Return a pydantic model or a dataclass as pydantic writes it; where a field has no JSON, field by field."""
    try:
        return to_jsonable_python(value, by_alias=True)
    except SynchronousOnlyOperation:
        raise
    except Exception:
        if isinstance(value, BaseModel):
            names = {name: field.serialization_alias or name for name, field in type(value).model_fields.items()}
        else:
            names = {field.name: field.name for field in dataclasses.fields(value)}
        return {alias: getattr(value, name) for name, alias in names.items()}


def _form(value: Any) -> str:
    """Return the text that pydantic writes for a date, a number, a path and the like; or that there is none."""
    try:
        written = to_jsonable_python(value)
        if isinstance(written, str):
            return written
    except Exception:  # noqa: S110 - it has no form, whatever the reason
        pass
    return f"[an object of type {type(value).__name__}, which has no JSON form]"


def _bytes(data: bytes) -> str:
    """Return bytes as the text they are; of others, how many there are and which."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\x00"
    return text if "\x00" not in text else f"[{len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}]"


def _key(key: Any) -> str:
    match key:
        case Enum():
            return _key(key.value)
        case str():
            return str(key)
        case None | bool() | int() | float() | tuple():
            return _str(key)
        case bytes():
            return _bytes(key)
        case Promise():
            return str(key)
        case _:
            return _form(key)


def _check_that_it_has_run(value: Any) -> None:
    """Raise `Unfinished` for what somebody has yet to await or to read: what it does has not been done."""
    waits = inspect.isawaitable(value) or isinstance(value, AsyncIterator | Future)
    if not waits and not isinstance(value, Iterator):
        return
    if inspect.iscoroutine(value):
        value.close()  # or Python complains that nobody awaited it
    advice = "Await it, and return what it gives" if waits else "Return a list of what it yields"
    raise Unfinished(f"The tool gave back an object of type {type(value).__name__}, which has not run yet. {advice}.")


def _str(value: Any) -> str:
    try:
        return str(value)
    except SynchronousOnlyOperation:
        raise
    except Exception:
        return f"<{type(value).__name__}>"  # it cannot even say what it is


def _digest(text: str) -> str:
    """Return the digest of a text's UTF-8, made in slices: the text may be as large as memory allows."""
    sha = hashlib.sha256()
    for start in range(0, len(text), SLICE):
        sha.update(text[start : start + SLICE].encode("utf-8", "replace"))
    return sha.hexdigest()
