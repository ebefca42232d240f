"""How pydantic writes objects of somebody else's: by their own rules, so that what those hide stays hidden."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, TypeGuard, get_args, get_type_hints

from django.core.exceptions import SynchronousOnlyOperation
from pydantic import BaseModel, ConfigDict, TypeAdapter
from pydantic_core import to_jsonable_python

from ..exceptions import Unfinished
from .functions import kind_of

NO_FORM = "[a value that has no JSON form]"
KNOWN_CLASSES = 512

Otherwise = Callable[[Any], Any]
"""What is written instead of a value that pydantic does not know."""


def has_fields(value: Any) -> TypeGuard[Any]:
    """Whether it is a pydantic model or a dataclass."""
    return isinstance(value, BaseModel) or (dataclasses.is_dataclass(value) and not isinstance(value, type))


def fields(value: Any, otherwise: Otherwise) -> Any:
    """Return a pydantic model or a dataclass as JSON data, by alias, as its declaration writes it.

    An excluded field is left out, and serializers and computed fields have their say, whatever
    else the object holds; a field of which its own serializer makes nothing says so. A
    dataclass that knows nothing of pydantic is returned field by field, as it is.
    """
    kind: Any = type(value)
    if not _speaks_pydantic(kind):
        return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    try:
        return _written(value, otherwise)
    except Exception as error:
        _raise_what_is_ours(error)
    if _is_written_whole(kind):
        return no_form(value)
    kept: dict[str, Any] = {}
    for name, shown in _shown_names(value):
        try:
            kept |= _written(value, otherwise, {name})
        except Exception as error:
            _raise_what_is_ours(error)
            kept[shown] = NO_FORM
    return kept


def form(value: Any) -> str:
    """Return the text that pydantic writes for a date, a number, a path and the like; or that there is none."""
    try:
        written = to_jsonable_python(value)
        if isinstance(written, str):
            return written
    except Exception:  # noqa: S110 - it has no form, whatever the reason
        pass
    return no_form(value)


def no_form(value: Any) -> str:
    """Return the text that stands for an object without a JSON form."""
    return f"[an object of type {kind_of(value)}, which has no JSON form]"


def _written(value: Any, otherwise: Otherwise, only: set[str] | None = None) -> Any:
    kind: Any = type(value)
    if (adapter := _adapter(kind)) is None:
        return to_jsonable_python(value, by_alias=True, include=only, fallback=otherwise)
    return adapter.serializer.to_python([value], mode="json", by_alias=True, fallback=otherwise, warnings=False)[0]


@lru_cache(KNOWN_CLASSES)
def _adapter(kind: type[Any]) -> TypeAdapter[Any] | None:
    """Return what writes a dataclass of Python's own that is declared for pydantic; other classes write themselves."""
    if hasattr(kind, "__pydantic_serializer__"):
        return None
    # Within a list, for a dataclass itself takes no configuration.
    return TypeAdapter(list[kind], config=ConfigDict(arbitrary_types_allowed=True))  # type: ignore[valid-type]


@lru_cache(KNOWN_CLASSES)
def _speaks_pydantic(kind: type[Any]) -> bool:
    if hasattr(kind, "__pydantic_serializer__"):
        return True
    try:
        hints = get_type_hints(kind, include_extras=True)
    except Exception:  # whatever the class names that is not there
        hints = {}
    found = [field.default for field in dataclasses.fields(kind)] + [_said(hint) for hint in hints.values()]
    return any(type(item).__module__.partition(".")[0] == "pydantic" for item in _flat(found))


def _said(hint: Any) -> list[Any]:
    """Return what `Annotated` says in an annotation, at any depth."""
    inner = [_said(item) for item in get_args(hint)]
    return [*getattr(hint, "__metadata__", ()), *inner]


def _flat(items: list[Any]) -> Iterator[Any]:
    for item in items:
        if isinstance(item, list):
            yield from _flat(item)
        else:
            yield item


def _is_written_whole(kind: type[Any]) -> bool:
    """Whether only the object as a whole can be written: a serializer of its own decides what of it is shown."""
    decorators = getattr(kind, "__pydantic_decorators__", None)
    return decorators is None or bool(decorators.model_serializers)


def _shown_names(value: Any) -> Iterator[tuple[str, str]]:
    """Yield the name of every field, and the one that it is written under."""
    kind = type(value)
    declared = getattr(kind, "__pydantic_fields__", None) or getattr(kind, "model_fields", {})
    for name, field in declared.items():
        yield name, field.serialization_alias or name
    for name, computed in kind.__pydantic_decorators__.computed_fields.items():
        yield name, computed.info.alias or name
    for name in getattr(value, "model_extra", None) or ():
        yield name, name


def _raise_what_is_ours(error: BaseException | None) -> None:
    """Raise what says that the object is to be written elsewhere or not at all, also from within pydantic's error."""
    while error is not None:
        if isinstance(error, (SynchronousOnlyOperation, Unfinished)):
            raise error
        error = error.__cause__ or error.__context__
