"""A body runs, whatever it is wrapped in: what can be awaited is awaited, and what only could run is no success."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group

from agentcore import Checkable, ContextBlock, Limits, RunContext, Tool, ToolContext, tool
from agentcore.declaration import registry
from agentcore.exceptions import UserError
from agentcore.models import Run, ToolCall
from agentcore.testing import ScriptedModel, Turn
from tests.integration.room import drive_as_worker, fresh, make

pytestmark = pytest.mark.django_db(transaction=True)
RAN: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


async def look(text: str) -> str:
    """Look."""
    await asyncio.sleep(0)
    RAN.append(text)
    return f"seen {text}"


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    """What people write around their functions: a plain wrapper, whatever is inside."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


class Callee:
    """Can be called, and does it asynchronously."""

    async def __call__(self, text: str) -> str:
        """Look."""
        return await look(text)

    @logged
    async def method(self, text: str) -> str:
        """Look."""
        return await look(text)


async def looks_later(text: str) -> Any:
    """Look in a task of its own, and give that back."""
    return asyncio.ensure_future(look(text))


def in_a_lambda(text: str) -> Any:
    """Look."""
    return look(text)


WAYS: dict[str, Callable[..., Any]] = {
    "wrapper": logged(look),
    "wrapped twice": logged(logged(look)),
    "partial": functools.partial(look),
    "partial of a wrapper": functools.partial(logged(look)),
    "callable object": Callee(),
    "decorated bound method": Callee().method,
    "gives back a coroutine": in_a_lambda,
    "gives back a task": looks_later,
}


def drive(run: Run) -> Run:
    drive_as_worker(run)
    return fresh(run)


def played(made: Tool, **arguments: Any) -> tuple[Run, ToolCall]:
    run = drive(make([Turn(calls=[(made.name, arguments)]), Turn(text="Done.")], [made]).send())
    return run, run.tool_calls.get()


@pytest.mark.covers("fc:A1")
def test_what_a_body_gives_back_that_can_be_awaited_is_awaited() -> None:
    for way, function in WAYS.items():
        with registry.isolated():
            run, call = played(tool(name="look")(function), text=way)
        assert RAN[-1] == way
        assert (run.status, call.status, call.result_json) == ("succeeded", "succeeded", f"seen {way}")
    assert len(RAN) == len(WAYS)


@pytest.mark.covers("fc:A1")
def test_a_partials_own_arguments_are_not_the_models() -> None:
    def look_with(text: str, key: str) -> str:
        """Look."""
        return f"{text} {key}"

    made = tool(name="look")(functools.partial(look_with, key="secret"))
    assert set(made.schema["properties"]) == {"text"} and made.description == "Look."
    assert played(made, text="a star")[1].result_json == "a star secret"


@pytest.mark.covers("fc:A1")
def test_what_is_awaited_on_the_loop_is_within_the_timeout_and_can_be_cancelled() -> None:
    cancelled: list[bool] = []

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    @tool(effect="pure", timeout=0.3)
    @logged
    async def act() -> None:
        """Wait."""
        await wait()

    run, call = played(act)
    assert (run.status, call.status, cancelled) == ("succeeded", "failed", [True])
    assert "did not end within 0.3 seconds" in call.error


@pytest.mark.covers("fc:A1")
def test_an_awaitable_of_an_atomic_tool_is_refused_and_what_it_wrote_is_taken_back() -> None:
    @tool(effect="atomic")
    def book(text: str) -> Any:
        """Book."""
        Group.objects.create(name=text)
        return look(text)

    run, call = played(book, text="a room")
    assert (run.status, call.status, RAN, Group.objects.count()) == ("succeeded", "failed", [], 0)
    assert "atomic" in call.error and "coroutine" in call.error


def rows() -> Any:
    """Give rows, one by one."""
    RAN.append("began")
    yield 1


async def rows_later() -> AsyncIterator[int]:
    """Give rows, one by one."""
    RAN.append("began")
    yield 1


class Rows:
    """Can be called, and gives rows one by one."""

    def __call__(self) -> Any:
        """Give rows, one by one."""
        yield 1


@pytest.mark.covers("fc:A1")
@pytest.mark.once
@pytest.mark.parametrize("function", [rows, rows_later, functools.partial(rows), Rows(), Rows().__call__])
@pytest.mark.parametrize("effect", ["unsafe", "atomic"])
def test_a_generator_function_is_refused_when_it_is_declared(function: Any, effect: str) -> None:
    with pytest.raises(UserError, match=r"generator.*list"):
        tool(name="rows", effect=effect)(function)


@pytest.mark.covers("fc:A1")
@pytest.mark.once
@pytest.mark.parametrize("function", [look, Callee(), functools.partial(look)])
def test_a_coroutine_function_cannot_be_atomic(function: Any) -> None:
    with pytest.raises(UserError, match="transactions are sync"):
        tool(name="look", effect="atomic")(function)


@pytest.mark.covers("fc:A1")
@pytest.mark.parametrize("way", ["sync", "wrapper", "coroutine"])
def test_a_check_is_awaited_too(way: str) -> None:
    async def found(arguments: Any, ctx: ToolContext) -> str:
        RAN.append("checked")
        return "it happened"

    checks: dict[str, Callable[..., Any]] = {
        "sync": lambda arguments, ctx: "it happened",
        "wrapper": logged(found),
        "coroutine": found,
    }

    @tool(effect=Checkable(checks[way]))
    def act() -> None:
        """Break off."""
        raise ConnectionError

    _, call = played(act)
    assert (call.status, call.result_json) == ("succeeded", "it happened")


@pytest.mark.covers("fc:A1")
def test_needs_approval_is_awaited_too() -> None:
    async def never(arguments: Any, ctx: ToolContext) -> bool:
        return False

    @tool(needs_approval=logged(never))
    def act() -> str:
        """Act."""
        return "done"

    run, call = played(act)
    assert (run.status, call.status) == ("succeeded", "succeeded")


@pytest.mark.covers("fc:A1")
def test_loaders_instructions_models_and_prices_are_awaited_too() -> None:
    async def load(about: RunContext) -> list[ContextBlock]:
        return [ContextBlock("files", "three")]

    async def instruct(about: RunContext) -> str:
        return "Be short."

    async def price(usage: Any) -> float:
        RAN.append("priced")
        return 0.0

    model = ScriptedModel([Turn(text="Done.")])

    async def choose(about: RunContext) -> Any:
        return model

    limits = Limits(max_cost=1, price=logged(price))
    room = make(logged(choose), context=[logged(load)], instructions=logged(instruct), limits=limits)
    assert drive(room.send()).status == "succeeded"
    (request,) = model.requests
    assert request.instructions == "Be short." and [block.text for block in request.context] == ["three"]
    assert RAN == ["priced"]


@pytest.mark.covers("fc:A1")
def test_a_loader_that_is_a_generator_is_read_where_it_ran() -> None:
    def load(about: RunContext) -> Iterator[ContextBlock]:
        yield ContextBlock("groups", str(Group.objects.count()))

    room = make([Turn(text="Done.")], context=[load])
    assert drive(room.send()).status == "succeeded"
    assert room.model.requests[0].context[0].text == "0"
