"""A body that gives back what is lazy: an iterator is listed, and what only could run is no result."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group

from agentcore import SYSTEM, Checkable, tool
from agentcore.declaration import registry
from agentcore.models import Run, ToolCall
from agentcore.services import approvals
from agentcore.testing import Turn
from agentcore.values.jsontext import TRUNCATED
from tests.integration.room import drive_as_worker, fresh, make, only_approval

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.covers("fc:A1")]
PAID: list[str] = []
KINDS = ["sync", "async", "atomic"]


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    PAID.clear()
    with registry.isolated():
        yield


def paying(give: Callable[[], Any], kind: str = "sync", **options: Any) -> Any:
    """A tool that has acted when it gives something back."""

    def pay() -> Any:
        """Pay."""
        PAID.append("paid")
        return give()

    async def pay_later() -> Any:
        """Pay."""
        return pay()

    effect = options.pop("effect", "atomic" if kind == "atomic" else "unsafe")
    return tool(name="pay", effect=effect, **options)(pay_later if kind == "async" else pay)


def played(made: Any) -> tuple[Run, ToolCall]:
    run = make([Turn(calls=[("pay", {})]), Turn(text="Done.")], [made]).send()
    drive_as_worker(run)
    if fresh(run).status == "waiting" and made.needs_approval:
        approval = only_approval(run)
        approvals.approve(approval, user=SYSTEM, digest=approval.digest)
        drive_as_worker(run)
    return fresh(run), run.tool_calls.get()


ITERATORS: dict[str, tuple[Callable[[], Any], Any]] = {
    "map": (lambda: map(str, [1, 2]), ["1", "2"]),
    "zip": (lambda: zip([1], ["a"], strict=True), [[1, "a"]]),
    "filter": (lambda: filter(None, [0, 1]), [1]),
    "an iterator of a list": (lambda: iter([1, 2]), [1, 2]),
    "reversed": (lambda: reversed([1, 2]), [2, 1]),
    "nested": (lambda: {"ok": 1, "rows": iter([1])}, {"ok": 1, "rows": [1]}),
    "rows": (lambda: {"a": map(str, [1]), "b": Group.objects.values_list("name", flat=True)}, {"a": ["1"], "b": ["g"]}),
    "reads rows": (lambda: map(lambda name: Group.objects.get(name=name).name, ["g", "g"]), ["g", "g"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_iterator_is_listed_where_the_body_ran(kind: str) -> None:
    Group.objects.create(name="g")
    for give, expected in ITERATORS.values():
        with registry.isolated():
            run, call = played(paying(give, kind))
        assert (run.status, call.status, call.result_json) == ("succeeded", "succeeded", expected), call.error


@pytest.mark.parametrize("kind", KINDS)
def test_an_iterator_without_an_end_is_listed_up_to_the_limit(kind: str, settings: Any) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "RESULT_LIMIT": 100}
    _, call = played(paying(itertools.count, kind))
    *kept, last = call.result_json
    assert call.status == "succeeded" and kept == [*range(len(kept))] and 10 < len(kept) < 100
    assert last == f"{TRUNCATED} more"


def test_what_an_iterator_writes_is_in_the_transaction_of_its_body() -> None:
    def writes(name: str) -> str:
        Group.objects.create(name=name)
        if name == "b":
            raise ValueError
        return name

    _, call = played(paying(lambda: map(writes, ["a", "b"]), "atomic"))
    assert (call.status, Group.objects.count()) == ("failed", 0) and "ValueError" in call.error


def rows() -> Iterator[int]:
    yield 1


async def looks() -> int:
    return 1


async def rows_later() -> Any:
    yield 1


UNUSABLE: dict[str, Callable[[], Any]] = {
    "a generator": rows,
    "a generator expression": lambda: (number for number in [1]),
    "an async generator": rows_later,
    "a generator in a list": lambda: [rows()],
    "a coroutine in a list": lambda: [looks()],
    "a coroutine in an iterator": lambda: iter([looks()]),
    "a submitted future": concurrent.futures.Future,
    "a future in an object": lambda: {"ok": concurrent.futures.Future()},
}


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("give", UNUSABLE.values(), ids=UNUSABLE)
def test_a_body_that_ran_and_gave_back_no_result_may_have_acted(give: Callable[[], Any], kind: str) -> None:
    run, call = played(paying(give, kind))
    assert (run.status, call.status, PAID) == ("succeeded", "failed", ["paid"])
    assert "has not run" not in call.error and "It may have acted in part before that." in call.error


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("options", [{"needs_approval": True}, {"on_error": "ask"}], ids=["approved", "asks"])
def test_a_person_is_asked_where_an_exception_would_ask_one(options: dict[str, Any], kind: str) -> None:
    run, call = played(paying(rows, kind, **options))
    assert (run.status, call.status, PAID) == ("waiting", "effect_unverified", ["paid"])


def test_the_check_of_a_checkable_is_asked() -> None:
    effect = Checkable(lambda arguments, ctx: "it happened")
    _, call = played(paying(rows, effect=effect))
    assert (call.status, call.result_json) == ("succeeded", "it happened")


def test_it_is_not_repeated_for_a_result_that_would_be_as_unusable() -> None:
    played(paying(rows, effect="idempotent", retries=3))
    assert PAID == ["paid"]


def test_an_atomic_body_leaves_nothing_and_says_so() -> None:
    _, call = played(paying(lambda: [rows()], "atomic", needs_approval=True))
    assert call.status == "failed" and "in part" not in call.error


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
