"""What can be said of an application's function without calling it, whatever kind of callable it is."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from types import CodeType
from typing import Any

LONGEST_KIND = 80


def underlying(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what is called in the end: the function of a `partial`, the `__call__` of an object."""
    inner = _without_partials(function)
    if inspect.isroutine(inner) or inspect.isclass(inner):
        return inner
    called: Callable[..., Any] = inner.__call__
    return called


def name_of(function: Callable[..., Any]) -> str:
    """Return the name that a function, or the class of a callable object, is known by."""
    inner = _without_partials(function)
    return getattr(inner, "__name__", type(inner).__name__)


def kind_of(value: object) -> str:
    """Return the name of a value's class, as far as a sentence has room for it: a class may be made with any name."""
    name = type(value).__name__
    return name if len(name) <= LONGEST_KIND else f"{name[:LONGEST_KIND]}…"


def given_to(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Return the arguments by name that a `partial` has given already."""
    found: dict[str, Any] = {}
    while isinstance(function, functools.partial):
        found = {**function.keywords, **found}
        function = function.func
    return found


def is_coroutine_function(function: Callable[..., Any]) -> bool:
    """Whether calling it runs nothing and gives back a coroutine: it may be called on an event loop.

    Read from its code: a mark that `functools.wraps` has copied says nothing about the wrapper.
    """
    return bool(_flags(function) & inspect.CO_COROUTINE)


def is_generator_function(function: Callable[..., Any]) -> bool:
    """Whether calling it runs nothing and gives back a generator, or an asynchronous one."""
    return bool(_flags(function) & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR))


def code_of(function: Callable[..., Any]) -> CodeType | None:
    """Return the code of what runs in the end, below partials and wrappers; None where there is none."""
    called: Any = underlying(function)
    while (inner := getattr(called, "__wrapped__", None)) is not None:
        called = underlying(inner)
    return getattr(getattr(called, "__func__", called), "__code__", None)


def _without_partials(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _flags(function: Callable[..., Any]) -> int:
    called = underlying(function)
    code = getattr(getattr(called, "__func__", called), "__code__", None)
    return code.co_flags if code is not None else 0
