"""Values that somebody else's code gave back: of any size and shape, made into JSON data of a bounded size."""

from __future__ import annotations

import dis
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
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from enum import Enum
from functools import partial
from types import CodeType, FrameType
from typing import Any

from django.core.exceptions import SynchronousOnlyOperation
from django.db.models import Model, QuerySet
from django.db.models.query import RawQuerySet
from django.utils.asyncio import async_unsafe
from django.utils.functional import Promise

from ..exceptions import NotRun, Unfinished
from . import jsontext, serialized
from .functions import code_of, kind_of

SLICE = 1_000_000
ROWS_AT_A_TIME = 200
AWAIT = "Await it, and return what it gives"
_LISTS = (list, tuple, set, frozenset, deque, range, KeysView, ValuesView, ItemsView)


def cut(value: Any, limit: int) -> Any:
    """Return `value` as plain JSON data of about `limit` bytes at most, in the forms of pydantic.

    Models and dataclasses are written by alias; a QuerySet as the list of its rows, and a row that is an
    object of Django's as its model, key and text: what else of it a reader may know, `values()` says.
    A longer text is cut, and says how long it was and its SHA-256, so that it can be told from others;
    bytes that are no text are told by length and digest alone. An iterator is listed until the limit.
    What is left out of a list, rows or an object is counted, and what has no JSON form says so. An object
    within itself is cut, too. Raises `Unfinished` for what is yet to be awaited, and for a generator.
    Raises `SynchronousOnlyOperation` on an event loop for what may block it: rows and iterators.
    """
    return _Room(limit).take(value)


def result(value: Any, limit: int, *, function: Callable[..., Any]) -> Any:
    """Return what `function` gave back, as `bounded` does.

    Raises `NotRun` where that is its own body, not begun: to be awaited, iterated or entered.
    Raises `Unfinished` for a context manager that nobody has entered, and for any function:
    whether somebody has also called it, it does not say.
    """
    unbegun = _unbegun(value)
    if unbegun is not None and code_of(function) is unbegun:
        _discard(value)
        raise NotRun(f"The tool gave back an object of type {kind_of(value)}, which has not run yet. {_advice(value)}.")
    if _is_function(value) or (_is_entered(value) and unbegun is not None):
        name = kind_of(value)
        raise Unfinished(f"What the tool gave back cannot be kept: it is an object of type {name}. {_advice(value)}.")
    return cut(value, limit)


class _Room:
    """How many bytes are left, and which containers one is in."""

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
                self._left -= len(str(number))
                return self._text(number) if isinstance(number, str) else number
            case bytes() | bytearray() | memoryview():
                return self._text(_bytes(bytes(value)))
            case Promise():
                return self._text(str(value))
            case _:
                return self._object_of_others(value)

    def _object_of_others(self, value: Any) -> Any:
        if serialized.has_fields(value):
            return self._inside(value, lambda item: self.take(self._fields(item)))
        if isinstance(value, Mapping):
            return self._inside(value, self._object)
        if isinstance(value, _LISTS):
            return self._inside(value, lambda items: self._list(items, lambda: len(items)))
        if isinstance(value, QuerySet | RawQuerySet):
            return self._inside(value, self._rows)
        if isinstance(value, Model):
            return self.take({"model": value._meta.label_lower, "pk": value.pk, "text": _str(value)})
        _check_that_it_is_there(value)
        if isinstance(value, Iterator):
            return self._inside(value, self._iterated)
        return self._text(serialized.form(value))

    def _fields(self, value: Any) -> Any:
        left = self._left
        try:
            return serialized.fields(value, self.take)
        finally:
            self._left = left  # all of it is counted when it is taken

    def _text(self, text: str) -> str:
        room = max(self._left - jsontext.QUOTES, 0)
        kept = jsontext.clean_text(text) if (short := len(text) <= room) else ""
        whole = short and jsontext.size(kept) - jsontext.QUOTES <= room
        if not whole:
            kept = jsontext.beginning(text, room)
        self._left -= jsontext.size(kept)
        if whole:
            return kept
        return f"{kept}{jsontext.TRUNCATED} {len(text)} characters, sha256 {_digest(text)}"

    def _inside(self, value: Any, take: Callable[[Any], Any]) -> Any:
        if id(value) in self._path or len(self._path) > jsontext.MAX_DEPTH:
            self._left -= jsontext.size(jsontext.TRUNCATED)
            return jsontext.TRUNCATED
        self._path.add(id(value))
        try:
            return take(value)
        finally:
            self._path.discard(id(value))

    @async_unsafe("An iterator is read in a thread: what it does may block, and cannot be read twice.")
    def _iterated(self, items: Iterator[Any]) -> list[Any]:
        return self._list(items, lambda: None)

    def _list(self, items: Iterable[Any], count: Callable[[], int | None]) -> list[Any]:
        kept: list[Any] = []
        for item in items:
            if self._left <= 0:
                total = count()
                return [
                    *kept,
                    f"{jsontext.TRUNCATED} more" if total is None else f"{jsontext.TRUNCATED} {total - len(kept)} more",
                ]
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
                name = f"{name} ({kind_of(key)})"
            kept[name] = self.take(item)
        return kept


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
            return serialized.form(key)


def _check_that_it_is_there(value: Any) -> None:
    """Raise `Unfinished` for what somebody has yet to await, and for a generator: what it does has not been done."""
    if not (_waits(value) or inspect.isgenerator(value)):
        return
    _discard(value)
    name = kind_of(value)
    raise Unfinished(f"What the tool gave back cannot be kept: it has an object of type {name}. {_advice(value)}.")


def _waits(value: Any) -> bool:
    return inspect.isawaitable(value) or isinstance(value, AsyncIterator | Future)


def _advice(value: Any) -> str:
    if _waits(value):
        return AWAIT
    if _is_entered(value):
        return "Enter it in the body, using `with`, and return what is made inside"
    return "Call it in the body, and return what it gives" if _is_function(value) else "Return a list of what it yields"


def _is_function(value: Any) -> bool:
    return inspect.isroutine(value) or isinstance(value, partial)


def _is_entered(value: Any) -> bool:
    """Whether `contextmanager` made it of a generator: of other managers, nobody can tell whether they have begun."""
    runs = getattr(value, "__dict__", {}).get("gen")
    is_manager = isinstance(value, AbstractContextManager | AbstractAsyncContextManager)
    return is_manager and (inspect.isgenerator(runs) or inspect.isasyncgen(runs))


def _discard(value: Any) -> None:
    if inspect.iscoroutine(value):
        value.close()  # or Python complains that nobody awaited it


def _unbegun(value: Any) -> CodeType | None:
    """Return the code that a value would run and has not begun to; None for a value that is no such thing."""
    runs = value.gen if _is_entered(value) else value
    if inspect.isgenerator(runs):
        return runs.gi_code if inspect.getgeneratorstate(runs) == inspect.GEN_CREATED else None
    if inspect.iscoroutine(runs):
        return runs.cr_code if inspect.getcoroutinestate(runs) == inspect.CORO_CREATED else None
    if inspect.isasyncgen(runs):
        begun = runs.ag_frame is None or runs.ag_running or _has_stepped(runs.ag_frame)
        return None if begun else runs.ag_code
    return None


def _has_stepped(frame: FrameType) -> bool:
    """Whether a frame is beyond where it was made (`inspect.getasyncgenstate` is of Python 3.12)."""
    made = (step.offset for step in dis.get_instructions(frame.f_code) if step.opname == "RETURN_GENERATOR")
    return frame.f_lasti > next(made, 0)


def _str(value: Any) -> str:
    try:
        return str(value)
    except SynchronousOnlyOperation:
        raise
    except Exception:
        return f"<{kind_of(value)}>"  # it cannot even say what it is


def _digest(text: str) -> str:
    """Return the digest of a text's UTF-8, made in slices: the text may be as large as memory allows."""
    sha = hashlib.sha256()
    for start in range(0, len(text), SLICE):
        sha.update(text[start : start + SLICE].encode("utf-8", "replace"))
    return sha.hexdigest()
