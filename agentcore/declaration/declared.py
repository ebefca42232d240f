"""What an app may declare an agent with: each mistake is told where it is made, with what to write instead."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..exceptions import UserError

MOST = 2**31 - 1


def text(what: str, value: Any, most: int) -> None:
    """Raise `UserError` unless `value` is text of 1 to `most` characters."""
    if not isinstance(value, str):
        raise UserError(f"{what} is {shown(value)}: write text, in quotes.")
    if not value.strip() or len(value) > most:
        raise UserError(f"{what} is {shown(value)}: use 1 to {most} characters.")
    if not value.isprintable():
        raise UserError(f"{what} is {shown(value)}: use characters that can be seen, on one line.")


def said(what: str, value: Any) -> None:
    """Raise `UserError` unless `value` is text that somebody can read, on one line or several."""
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{what} is {shown(value)}: write a sentence that says what can be done.")


def code(what: str, value: Any) -> None:
    """Raise `UserError` unless `value` is a code that rows keep and programs compare."""
    if not isinstance(value, str) or not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", value):
        raise UserError(f"{what} is {shown(value)}: use up to 64 of a–z, 0–9 and _, beginning with a letter.")


def whole(what: str, value: Any, least: int) -> None:
    """Raise `UserError` unless `value` is an integer of at least `least` that a database takes."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"{what} is {shown(value)}: write a whole number of at least {least}.")
    if value > MOST:
        raise UserError(f"{what} is {shown(value)}: write at most {MOST}.")


def positive(what: str, value: Any) -> None:
    """Raise `UserError` unless `value` is a number above 0 that a clock takes."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 < value <= MOST:
        raise UserError(f"{what} is {shown(value)}: write a number above 0, and of {MOST} at most.")


def one_of(what: str, value: Any, choices: Sequence[str]) -> None:
    """Raise `UserError` unless `value` is one of the words."""
    if value not in choices:
        raise UserError(f"{what} must be one of {', '.join(choices)}. It is {shown(value)}.")


def listed(what: str, value: Any, of: str) -> tuple[Any, ...]:
    """Return the items of a list; raises `UserError` for what is none, with what it should have been a list `of`."""
    if isinstance(value, str | bytes | Mapping | type) or not isinstance(value, Iterable):
        raise UserError(f"{what} is {shown(value)}: write a list of {of}, which may be empty: [].")
    return tuple(value)


def function(what: str, value: Any, arguments: str) -> None:
    """Raise `UserError` unless `value` can be called with these arguments, "arguments, ctx" for example."""
    if not callable(value):
        raise UserError(f"{what} is {shown(value)}: write a function of ({arguments}).")
    given = arguments.split(", ") if arguments else []
    try:
        inspect.signature(value).bind(*given)
    except TypeError as error:
        raise UserError(f"{what} is {shown(value)}, which is not a function of ({arguments}): {error}.") from error
    except ValueError:
        return  # a function of C that does not tell


def model(what: str, value: Any) -> None:
    """Raise `UserError` unless `value` is a model, or the name of one in its provider: "openai:gpt-5"."""
    if isinstance(value, str):
        provider, _, name = value.partition(":")
        if not (provider.strip() and name.strip()) or value != value.strip() or not value.isprintable():
            raise UserError(f'{what} is {shown(value)}: write provider:model, such as "openai:gpt-5".')
        return
    lacks = [name for name in ("name", "provider", "stream") if not hasattr(value, name)]
    if isinstance(value, type):
        raise UserError(f"{what} is a class: give an instance of it, {value.__name__}(…).")
    if lacks:
        raise UserError(
            f"{what} is {shown(value)}, which has no {' and no '.join(lacks)}. Give an object with a name, a provider "
            "and stream(request), or a function of the run that returns one."
        )
    for attribute in ("name", "provider"):
        if not isinstance(getattr(value, attribute), str):
            raise UserError(f"{what}: its {attribute} is {shown(getattr(value, attribute))}. Make it text.")
    function(f"{what}.stream", value.stream, "request")
    if inspect.iscoroutinefunction(value.stream) or inspect.isgeneratorfunction(value.stream):
        raise UserError(f"{what}.stream is no async generator. Write `async def stream(self, request)` with a `yield`.")


def shown(value: Any) -> str:
    """Return how a value is named in a sentence: short, whatever it is."""
    if isinstance(value, type) or inspect.isroutine(value):
        return getattr(value, "__qualname__", repr(value))
    try:
        said = repr(value)
    except Exception:
        said = f"a {type(value).__name__}"
    return said if len(said) <= 80 else f"{said[:79]}…"
