"""JSON as agentcore stores it: clean for both databases, canonical where bytes are compared.

Model and tool output is untrusted: PostgreSQL refuses NUL and lone surrogates,
neither database takes NaN, and jsonb reorders keys. So values are cleaned once,
at the boundary, before any transaction; and a digest is taken over the canonical
text that is stored, never over what a database gives back re-ordered.
"""

from __future__ import annotations

import hashlib
import json
import math
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json

from .functions import kind_of

MAX_DEPTH = 64
# Of what must stay as it is. The deepest place it stands in is four levels down, and an event may be cleaned whole: the
# `arguments` of one of the `parts` of an event's `message`.
KEPT_DEPTH = MAX_DEPTH - 4
MAX_SAFE_INTEGER = 2**53 - 1  # beyond it a float is no longer every integer
MOST_BITS = 14_000  # some 4,200 digits: Python reads no more of them, and PostgreSQL's jsonb stores them
TRUNCATED = "…[truncated]"
QUOTES = 2

_NUL = b"\\u0000"
_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}  # as pydantic writes them
_CANONICAL = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False, sort_keys=True)


def clean_text(text: str) -> str:
    """Return `text` with NUL and lone surrogates replaced by U+FFFD."""
    if text.isascii() and "\x00" not in text:
        return text
    return text.replace("\x00", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def whole(text: str) -> tuple[str, str]:
    """Return `text` cleaned, without the half of a character that it may end with, and that half or ""."""
    half = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
    return clean_text(text[:-1] if half else text), half


def clean(value: Any, depth: int = 0) -> Any:
    """Return `value` as plain JSON data that every store and reader takes.

    NaN and infinities become strings, as does an integer that no reader takes; what is
    not JSON becomes its `str()`; what is nested deeper than 64 levels is cut.
    """
    if type(value) is str:
        return clean_text(value)
    match value:
        case None | bool():
            return value
        case str():
            return clean_text(str(value))
        case int():
            return int(value) if value.bit_length() <= MOST_BITS else _digits(value)
        case float():
            if not math.isfinite(value):
                return _NOT_FINITE[str(value)]
            return int(value) if value.is_integer() and abs(value) <= MAX_SAFE_INTEGER else float(value)
        case dict() | list() | tuple() | set() | frozenset() if depth > MAX_DEPTH:
            return TRUNCATED
        case dict():
            return {clean_text(str(key)): clean(item, depth + 1) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [clean(item, depth + 1) for item in value]
        case _:
            return clean_text(str(value))


def unkept(value: Any, depth: int = 0) -> str:
    """Say what of a value would not be stored as it is, as the object of a sentence; "" where all of it would be."""
    if isinstance(value, str):
        return "" if clean_text(str(value)) == value else "a text with a zero byte or half a character"
    if depth > KEPT_DEPTH and isinstance(value, Mapping | list | tuple):
        return f"something nested deeper than {KEPT_DEPTH} levels"
    match value:
        case None | bool():
            return ""
        case int():
            return "" if value.bit_length() <= MOST_BITS else "a number of too many digits"
        case float():
            return "" if math.isfinite(value) else "a number that is not finite"
        case dict():
            if not all(isinstance(key, str) for key in value):
                return "a key that is no text"
            items: list[Any] = [*value, *value.values()]
        case list() | tuple():
            items = [*value]
        case _:
            return f"an object of type {kind_of(value)}, which JSON does not have"
    return next((found for item in items if (found := unkept(item, depth + 1))), "")


def plain(value: Any, depth: int = 0) -> Any:
    """Return a value with each mapping in it as a dict; raises `TypeError` for what is of no JSON type.

    What `unkept` says of a text, of a number or of too deep a nesting is left to it.
    """
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Mapping() | list() | tuple() if depth > KEPT_DEPTH:
            return value
        case Mapping():
            if strange := [key for key in value if not isinstance(key, str)]:
                raise TypeError(f"a key of type {kind_of(strange[0])}")
            return {key: plain(item, depth + 1) for key, item in value.items()}
        case list() | tuple():
            return [plain(item, depth + 1) for item in value]
        case _:
            raise TypeError(f"an object of type {kind_of(value)}")


def _digits(number: int) -> str:
    """Return an integer as text: decimal, but hexadecimal where Python refuses so many digits."""
    try:
        return str(number)
    except ValueError:
        return hex(number)


def parse(text: str) -> Any:
    """Return what JSON text says, read strictly; raises `ValueError` for text that two readers may read in two ways.

    That is: NaN and infinities, numbers beyond a float, a name twice in one object, or too deep a nesting.
    """
    try:
        return json.loads(
            text, parse_constant=_refuse, parse_float=_finite, parse_int=_integer, object_pairs_hook=_once_each
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("a number has too many digits") from None


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is too large")
    return number


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in an object")
    return found


def canonical(value: Any) -> str:
    """Return the one text of a JSON value: cleaned, keys sorted, no spaces (in the manner of RFC 8785)."""
    return _CANONICAL.encode(clean(value))


def encode(value: Any) -> bytes:
    """Return the compact UTF-8 bytes of a JSON value; what no store or reader takes is cleaned first.

    Its numbers are taken as they are: whoever has them from outside has cleaned them.
    """
    try:
        data = to_json(value, inf_nan_mode="strings")
        if _NUL not in data:
            return data
    except ValueError:
        pass  # what has no JSON form, a lone surrogate, an integer of too many digits or nested without end
    return to_json(clean(value))


def beginning(text: str, room: int) -> str:
    """Return as much of a text's beginning, cleaned, as takes at most `room` bytes within its quotes in JSON."""
    start = clean_text(text[:room])  # no character takes less than a byte
    if size(start) - QUOTES <= room:
        return start
    return start[: bisect_right(range(1, len(start) + 1), room, key=lambda end: size(start[:end]) - QUOTES)]


def size(value: Any) -> int:
    """Return how many bytes a JSON value takes where it is stored: what every limit of size counts."""
    return len(encode(value))


def digest(*texts: str) -> str:
    """Return the SHA-256 hex digest over `texts`, each with its length, so that none can run into the next."""
    sha = hashlib.sha256()
    for text in texts:
        data = text.encode()
        sha.update(len(data).to_bytes(8, "big") + data)
    return sha.hexdigest()


def shorten(text: str, limit: int) -> str:
    """Return `text`, cut visibly when it is longer than `limit` characters."""
    return text if len(text) <= limit else text[:limit] + TRUNCATED


# Characters that Python calls printable and nobody can see: fillers, joiners, blanks, variation selectors.
_UNSEEN = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
    + "".join(map(chr, range(0xFE00, 0xFE10)))
    + "".join(map(chr, range(0xE0100, 0xE01F0)))
)


def is_seen(char: str) -> bool:
    """Whether a reader sees this character for what it is (the demo's page keeps the same list)."""
    return char.isprintable() and char not in _UNSEEN


def visible(text: str, keep: str = "") -> str:
    """Return `text` with control, bidirectional, zero-width and other unseen characters as escapes: `\\u{202e}`.

    What a person decides on must be what they see: such characters can hide or
    re-order the rest of a line. Those in `keep` stay. A backslash that would make
    typed text read like such an escape is escaped itself, so no two texts look the same.
    """
    if text.isprintable() and _UNSEEN.isdisjoint(text) and "\\u{" not in text:
        return text
    escaped = text.replace("\\u{", "\\u{005c}u{")
    return "".join(char if char in keep or is_seen(char) else f"\\u{{{ord(char):04x}}}" for char in escaped)
