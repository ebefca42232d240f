"""Values that somebody else's code gave back: of any size and shape, made into JSON data of a bounded size."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from . import jsontext

SLICE = 1_000_000


def bounded(value: Any, limit: int) -> Any:
    """Return `value` as plain JSON data of about `limit` characters at most.

    A longer text is cut, and says how long it was and its SHA-256, so that it can be
    told from others; bytes are told by length and digest alone. What is left out of a
    list or an object is counted. An object within itself is cut, too.
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
            case str():
                return self._text(value)
            case int() | float():
                number = jsontext.clean(value)
                self._left -= len(str(number))
                return self._text(number) if isinstance(number, str) else number
            case bytes() | bytearray() | memoryview():
                data = bytes(value)
                return self._text(f"[{len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}]")
            case Mapping() | list() | tuple() | set() | frozenset():
                return self._container(value)
            case _:
                return self._text(_str(value))

    def _text(self, text: str) -> str:
        room = max(self._left, 0)
        self._left -= min(len(text), room) + 2
        if len(text) <= room:
            return jsontext.clean_text(text)
        note = f"{jsontext.TRUNCATED} {len(text)} characters, sha256 {_digest(text)}"
        return jsontext.clean_text(text[:room]) + note

    def _container(self, value: Any) -> Any:
        if id(value) in self._path or len(self._path) > jsontext.MAX_DEPTH:
            self._left -= len(jsontext.TRUNCATED)
            return jsontext.TRUNCATED
        self._path.add(id(value))
        try:
            return self._object(value) if isinstance(value, Mapping) else self._list(value, len(value))
        finally:
            self._path.discard(id(value))

    def _list(self, items: Iterable[Any], count: int) -> list[Any]:
        kept: list[Any] = []
        for item in items:
            if self._left <= 0:
                return [*kept, f"{jsontext.TRUNCATED} {count - len(kept)} more"]
            self._left -= 1
            kept.append(self.take(item))
        return kept

    def _object(self, value: Mapping[Any, Any]) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for key, item in value.items():
            if self._left <= 0:
                kept[jsontext.TRUNCATED] = f"{len(value) - len(kept)} more"
                return kept
            self._left -= 2
            kept[self._text(key if isinstance(key, str) else _str(key))] = self.take(item)
        return kept


def _str(value: Any) -> str:
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__}>"  # it cannot even say what it is


def _digest(text: str) -> str:
    """Return the digest of a text's UTF-8, made in slices: the text may be as large as memory allows."""
    sha = hashlib.sha256()
    for start in range(0, len(text), SLICE):
        sha.update(text[start : start + SLICE].encode("utf-8", "replace"))
    return sha.hexdigest()
