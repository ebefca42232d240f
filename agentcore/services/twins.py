"""Async twins of the services: one implementation, called in Django's thread for synchronous code."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.db.models import Model, QuerySet

P = ParamSpec("P")
T = TypeVar("T")
M = TypeVar("M", bound=Model)


def twin(function: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Return the async function that does what `function` does."""

    @wraps(function)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        return await sync_to_async(function, thread_sensitive=True)(*args, **kwargs)

    call.__name__ = f"a{function.__name__.rstrip('_')}"
    return call


def listing(function: Callable[P, QuerySet[M]]) -> Callable[P, Coroutine[Any, Any, list[M]]]:
    """Return the async function that gives a list of what `function` finds: no event loop may read a queryset."""

    @wraps(function)
    def found(*args: P.args, **kwargs: P.kwargs) -> list[M]:
        return list(function(*args, **kwargs))

    return twin(found)
