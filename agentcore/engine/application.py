"""Calls of the application's functions: where they run, what is awaited, and what their failure means.

Whether something is awaited is decided by what a function gives back, never by how it
was declared: a decorator, a `partial` or an object with `__call__` hides an `async def`.
A declaration only decides where it is called: a coroutine function on the run's loop,
anything else in a thread of the application's, where it may block.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from django.core.exceptions import SynchronousOnlyOperation

from ..conf import get_settings
from ..database.outage import is_outage
from ..exceptions import ModelError, RunError, UserError
from ..models import Run
from ..values.functions import is_coroutine_function, kind_of
from ..values.logextra import log_extra
from .runtime import Runtime
from .threads import AppThreads, BrokeOff, contained

logger = logging.getLogger("agentcore.engine")

T = TypeVar("T")

TRY_AGAIN = "Try again; if it lasts, tell whoever runs this site."


@dataclass(frozen=True)
class Hook:
    """How a hook's failure is told: as `what` to operators, with `code` and `message` to people who see the run."""

    what: str
    code: str
    message: str


async def ask(
    hook: Hook, run: Run, runtime: Runtime, function: Callable[..., Any], *args: Any, read: Callable[[Any], T]
) -> T:
    """Call a hook as `call` does, within the time of a tool, and turn its failure into the end of the run.

    A `RunError` or a `UserError` of the hook's is raised as it is: it says itself how the run ends.
    Anything else is raised as a `RunError` with the hook's code: a `ModelError` too, for no model has
    failed. An error of the database is the hook's own like any other, where the engine can read the run. Where it
    cannot, the database is away: its own error is raised, and whoever takes the run over asks again.
    """
    try:
        async with asyncio.timeout(get_settings().tool_timeout):
            return await call(runtime.threads, function, *args, read=read)
    except Exception as error:
        if isinstance(error, (RunError, UserError)) and not isinstance(error, ModelError):
            raise
        about = log_extra(hook.code, run.pk, run.attempt)
        logger.exception("%s failed", hook.what, extra=about)
        if is_outage(error):
            await runtime.read(_read_again, run)
        detail = f"{hook.what} failed with {kind_of(cause_of(error))}."
        raise RunError(hook.message, code=hook.code, detail=detail) from error


def _read_again(run: Run) -> bool:
    return Run.objects.filter(pk=run.pk).exists()


async def call(threads: AppThreads, function: Callable[..., Any], *args: Any, read: Callable[[Any], T]) -> T:
    """Call a function of the application's, await what it gives back, and return what `read` makes of that.

    What is lazy, such as a QuerySet or a generator, is read where the function ran. Raises what the
    function raises; what would end the worker is raised as `BrokeOff`.
    """
    bound = partial(function, *args)
    if is_coroutine_function(function):
        return await finished(threads, contained(bound), read)
    return await finished(threads, await threads.run(partial(at_once, bound, read)), read)


@dataclass(frozen=True)
class Read:
    """What was made of a value that is not to be awaited."""

    value: Any


def at_once(function: Callable[[], Any], read: Callable[[Any], Any]) -> Any:
    """Call a function in this thread, and read what it gives back there; what is to be awaited is returned as it is."""
    value = function()
    return value if inspect.isawaitable(value) else Read(read(value))


async def finished(threads: AppThreads, value: Any, read: Callable[[Any], T]) -> T:
    """Return what `read` makes of what a function gave back, once that is awaited; what `at_once` has read is kept."""
    if isinstance(value, Read):
        return value.value  # type: ignore[no-any-return]
    value = await _awaited(value)
    try:
        return contained(lambda: read(value))
    except SynchronousOnlyOperation:
        return await threads.run(lambda: read(value))


async def _awaited(value: Any) -> Any:
    """Await a value for as long as it can be awaited; raises `BrokeOff` where `contained` does."""
    while inspect.isawaitable(value):
        try:
            value = await value
        except Exception:
            raise
        except BaseException as error:
            if is_being_ended(error) or _is_being_closed(error):
                raise
            raise BrokeOff from error
    return value


def is_being_ended(error: BaseException) -> bool:
    """Whether this task is cancelled from outside, and not by a library of the application's own."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def _is_being_closed(error: BaseException) -> bool:
    """Whether Python throws the waiting coroutine away: then nobody below it has raised this."""
    return isinstance(error, GeneratorExit) and error.__traceback__ is not None and error.__traceback__.tb_next is None


async def next_of(items: Any, end: T) -> Any | T:
    """Return the next of what an asynchronous iterator of the application's gives, `end` after the last."""
    return await _awaited(contained(lambda: anext(items, end)))


async def opened(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function of the application's that gives an asynchronous iterator, on the loop."""
    return await _awaited(contained(lambda: function(*args)))


async def close(items: Any) -> None:
    """Close an asynchronous iterator of the application's, where it can be closed."""
    if hasattr(items, "aclose"):
        await _awaited(contained(items.aclose))


def cause_of(error: BaseException) -> BaseException:
    """Return what the application raised, unwrapped."""
    return error.__cause__ if isinstance(error, BrokeOff) and error.__cause__ is not None else error
