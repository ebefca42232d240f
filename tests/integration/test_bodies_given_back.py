"""A body that comes back instead of a result, to be called, entered or iterated: it has not run, or nobody knows."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentcore import tool
from tests.integration.room import played

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.covers("fc:A1")]
PAID: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_paid() -> None:
    PAID.clear()


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def started(function: Callable[..., Any]) -> Callable[..., Any]:
    """What begins a generator before it gives it back."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        found = function(*args, **kwargs)
        next(found)
        return found

    return wrapper


def pays_in_rows() -> Iterator[int]:
    """Pay."""
    PAID.append("paid")
    yield 1


async def pays_in_rows_later() -> Any:
    """Pay."""
    PAID.append("paid")
    yield 1


OWN: dict[str, Callable[..., Any]] = {
    "generator": wrapped(pays_in_rows),
    "wrapped twice": wrapped(wrapped(pays_in_rows)),
    "async generator": wrapped(pays_in_rows_later),
    "partial": functools.partial(wrapped(pays_in_rows)),
}


@pytest.mark.parametrize("function", OWN.values(), ids=OWN)
@pytest.mark.parametrize("effect", ["unsafe", "atomic"])
def test_a_body_that_is_a_generator_of_its_own_has_not_run(function: Callable[..., Any], effect: str) -> None:
    made = tool(name="pay", effect=effect, needs_approval=True)(function)
    run, call = played(made)
    assert (run.status, call.status, PAID) == ("succeeded", "failed", [])
    assert "has not run" in call.error and "in part" not in call.error


def test_a_generator_of_its_own_that_somebody_began_has_run_in_part() -> None:
    _, call = played(tool(name="pay", effect="unsafe")(started(pays_in_rows)))
    assert (call.status, PAID) == ("failed", ["paid"]) and "It may have acted in part" in call.error


def pays_when_it_is_called() -> None:
    """Pay."""
    PAID.append("paid")


def given_back(function: Callable[..., Any]) -> Callable[..., Any]:
    """What gives a body back instead of calling it."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return functools.partial(function, *args, **kwargs)

    return wrapper


def handed_on(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper() -> Any:
        return function

    return wrapper


LATER: dict[str, tuple[Callable[..., Any], str]] = {
    "context manager": (contextlib.contextmanager(pays_in_rows), "`with`"),
    "async context manager": (contextlib.asynccontextmanager(pays_in_rows_later), "`with`"),
}


@pytest.mark.parametrize(("function", "advice"), LATER.values(), ids=LATER)
@pytest.mark.parametrize("effect", ["unsafe", "atomic"])
def test_a_body_that_somebody_has_yet_to_enter_has_not_run(
    function: Callable[..., Any], advice: str, effect: str
) -> None:
    run, call = played(tool(name="pay", effect=effect, needs_approval=True)(function))
    assert (run.status, call.status, PAID) == ("succeeded", "failed", [])
    assert "has not run" in call.error and advice in call.error and "in part" not in call.error
    assert "awaits nothing" not in call.error


@pytest.mark.parametrize(
    "function", [given_back(pays_when_it_is_called), handed_on(pays_when_it_is_called)], ids=["partial", "itself"]
)
@pytest.mark.parametrize("approved", [False, True], ids=["at once", "approved"])
@pytest.mark.parametrize("runs_first", [False, True], ids=["not called", "called too"])
def test_of_a_body_that_is_given_back_nobody_knows_whether_it_was_also_called(
    function: Callable[..., Any], runs_first: bool, approved: bool
) -> None:
    @functools.wraps(function)
    def pay() -> Any:
        if runs_first:
            pays_when_it_is_called()
        return function()

    _, call = played(tool(name="pay", effect="unsafe", needs_approval=approved)(pay))
    assert PAID == ["paid"] * runs_first and "Call it" in call.error
    if approved:
        assert call.status == "effect_unverified"
    else:
        assert call.status == "failed" and "It may have acted in part" in call.error


class Shop:
    def close(self) -> None:
        """Close."""


GIVEN: dict[str, Callable[[], Any]] = {
    "lambda": lambda: lambda: 1,
    "function": lambda: pays_when_it_is_called,
    "builtin": lambda: len,
    "bound method": lambda: Shop().close,
    "partial": lambda: functools.partial(len, "a"),
    "context manager": lambda: contextlib.nullcontext() and contextlib.contextmanager(pays_in_rows)(),
    "cached": lambda: functools.lru_cache(pays_when_it_is_called),
}


@pytest.mark.parametrize("give", GIVEN.values(), ids=GIVEN)
def test_a_function_is_no_result_of_a_body_that_ran(give: Callable[[], Any]) -> None:
    def pay() -> Any:
        """Pay, and give back what nobody has called."""
        PAID.append("paid")
        return give()

    _, call = played(tool(name="pay", effect="unsafe")(pay))
    assert (call.status, PAID) == ("failed", ["paid"])
    assert "cannot be kept" in call.error and "in the body" in call.error and "It may have acted in part" in call.error


class Response:
    """What an HTTP library gives back: to be entered, or not."""

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *args: object) -> None: ...

    def __call__(self) -> None: ...


@pytest.mark.parametrize(
    "value",
    [Response(), Shop, {"do": len}, [contextlib.nullcontext()]],
    ids=["an object", "a class", "a function in a dict", "a context manager in a list"],
)
def test_what_has_no_form_and_may_be_what_a_body_made_is_told_as_such(value: Any) -> None:
    _, call = played(tool(name="pay", effect="pure")(lambda: value))
    assert call.status == "succeeded" and "no JSON form" in call.result
