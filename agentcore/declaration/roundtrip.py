"""Whether a value is the same when it was JSON in between: what pydantic's schemas and values tell of it."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator, Mapping, Set
from typing import Any

from pydantic import BaseModel, RootModel, TypeAdapter

from ..values import jsontext

FIELDS = frozenset({"model-field", "dataclass-field", "typed-dict-field"})
NOT_CALLED = frozenset({"metadata", "default", "cls", "config"})
NOT_SCHEMAS = frozenset({"metadata", "serialization", "default", "cls", "config"})


def unkept_fields(schema: Any, name: str = "") -> Iterator[str]:
    """Yield a sentence for each field of a pydantic core schema that is not read under the name it is written by."""
    if isinstance(schema, Mapping):
        if schema.get("type") in FIELDS:
            yield from _unkept(schema, str(schema.get("name", name)))
        for key, item in schema.items():
            if key not in NOT_SCHEMAS:
                yield from unkept_fields(item, str(key))
    elif isinstance(schema, list | tuple):
        for item in schema:
            yield from unkept_fields(item)


def runs_code(schema: Any) -> bool:
    """Whether a function may be called to read or to write what a pydantic core schema describes."""
    if isinstance(schema, Mapping):
        if schema.get("post_init") or schema.get("computed_fields"):
            return True
        return any(runs_code(item) for key, item in schema.items() if key not in NOT_CALLED)
    if isinstance(schema, list | tuple):
        return any(runs_code(item) for item in schema)
    return callable(schema) and not isinstance(schema, type)


def _unkept(field: Mapping[str, Any], name: str) -> Iterator[str]:
    if field.get("serialization_exclude") or "serialization_exclude_if" in field:
        yield f"{name} is excluded when it is written, so nobody would see it, nor would it be given. Drop its exclude."
    if field.get("init") is False or field.get("init_only"):
        yield f"{name} is not both read and written (init=False, InitVar). Make it a plain field."
    written, read = field.get("serialization_alias", name), _first(field.get("validation_alias", name))
    if written != read:
        yield f"{name} is read as {read} and written as {written}. Give it one alias=… for both."


def _first(alias: Any) -> Any:
    """Return the name that a JSON Schema shows for a validation alias: the first of its choices."""
    while isinstance(alias, list | tuple) and alias and isinstance(alias[0], list | tuple):
        alias = alias[0]
    return alias[0] if isinstance(alias, list | tuple) and len(alias) == 1 else alias


def difference(first: Any, second: Any, path: str = "") -> str:
    """Return where two values differ, as a path of names; empty where they do not.

    Types without an equality of their own (and a model's private attributes) are not looked into.
    """
    where = path or "a value"
    parts, others = _parts(first), _parts(second)
    if parts is None or others is None:
        return "" if _equal(first, second) else where
    if type(first) is not type(second) or parts.keys() != others.keys():
        return where
    found = (difference(part, others[key], f"{path}.{key}" if path else str(key)) for key, part in parts.items())
    return next(filter(None, found), "")


def merged(raw: Any, value: Any, dumped: Any, path: str = "") -> str:
    """Return where two keys that were sent have become one, as "1" and "01" do as numbers; empty where none have."""
    if isinstance(value, RootModel):
        return merged(raw, value.root, dumped, path)
    parts = _parts(value)
    if isinstance(raw, list | tuple) and isinstance(dumped, list) and parts is not None:
        found = (merged(*items, path) for items in zip(raw, parts.values(), dumped, strict=False))
        return next(filter(None, found), "")
    if not isinstance(raw, Mapping) or not isinstance(dumped, Mapping) or parts is None or len(parts) != len(dumped):
        return ""
    if isinstance(value, Mapping) and len(raw) > len(value):
        dropped = [key for key in raw if key not in dumped]
        if any(_is_another_of(key, value) for key in dropped):
            return path or "an object"
    inner = zip(parts.values(), dumped.items(), strict=True)
    below = (merged(raw.get(key), part, item, f"{path}.{key}" if path else str(key)) for part, (key, item) in inner)
    return next(filter(None, below), "")


def _is_another_of(key: str, value: Mapping[Any, Any]) -> bool:
    """Whether a key of JSON is another spelling of one that a dict has, and not one that a validator has dropped."""
    known = next(iter(value), None)
    if isinstance(known, str):
        return key.strip().casefold() in {str(other).strip().casefold() for other in value}
    try:
        return TypeAdapter(type(known)).validate_strings(key) in value
    except Exception:  # no such key at all: an application's validator says so in any way it likes
        return False


def in_order(value: Any, dumped: Any) -> Any:
    """Return dumped data with the items of every set in one order, which a set itself does not have."""
    if isinstance(value, RootModel):
        return in_order(value.root, dumped)
    parts = value if isinstance(value, Set) else (_parts(value) or {}).values()
    if isinstance(dumped, list) and len(dumped) == len(parts):
        items = [in_order(part, item) for part, item in zip(parts, dumped, strict=True)]
        return sorted(items, key=jsontext.canonical) if isinstance(value, Set) else items
    if isinstance(dumped, dict) and len(dumped) == len(parts):
        return {key: in_order(part, item) for part, (key, item) in zip(parts, dumped.items(), strict=True)}
    return dumped


def _parts(value: Any) -> Mapping[Any, Any] | None:
    """Return what a container holds, in its order; None for a value of its own."""
    if isinstance(value, BaseModel):
        return {name: getattr(value, name) for name in type(value).model_fields} | (value.model_extra or {})
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list | tuple | deque):
        return dict(enumerate(value))
    return None


def _equal(first: Any, second: Any) -> bool:
    if type(first).__eq__ is object.__eq__:  # type: ignore[comparison-overlap]
        return type(first) is type(second)
    try:
        return bool(first == second)
    except Exception:  # an equality that says more than yes or no, as arrays have
        return type(first) is type(second)
