"""What application code raises is its own: no exception of it ends a worker, or hands its run over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import pytest
from django.contrib.auth.models import Group
from pydantic import BeforeValidator, create_model

from agentcore import Checkable, tool
from agentcore.declaration import registry
from agentcore.exceptions import CancelRequested, LeaseLost
from agentcore.models import Run
from agentcore.providers import ModelEvent, ModelRequest, TextDelta
from agentcore.testing import Turn
from tests.integration.room import assert_ended_once, drive_as_worker, fresh, make, types

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True), pytest.mark.covers("fc:A11")]


class Custom(BaseException):
    """What a library may have of its own."""


KINDS = [
    KeyboardInterrupt,
    SystemExit,
    GeneratorExit,
    Custom,
    asyncio.CancelledError,
    StopIteration,
    LeaseLost,
    CancelRequested,
]
COLOURS = ["sync", "async"]


@pytest.fixture(autouse=True)
def _short(settings: Any) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "TOOL_TIMEOUT": 5}


def raising(kind: type[BaseException], colour: str) -> Callable[..., Any]:
    """A function, of either colour, that raises."""

    def function(*args: Any) -> Any:
        raise kind

    async def asynchronous(*args: Any) -> Any:
        raise kind

    return function if colour == "sync" else asynchronous


def played(model: Any, tools: Any = (), *, alone: bool = True, **options: Any) -> Run:
    """Drive a run of an agent made for it, as a worker of one run or of many does; the worker lives."""
    with registry.isolated():
        run = make(model, tools, **options).send()
        outcome = drive_as_worker(run, alone=alone)
    assert outcome in ("ended", "suspended")
    assert "run.released" not in types(run)
    return fresh(run)


def shown(kind: type[BaseException], colour: str) -> str:
    """The name under which it is told: Python makes another of a StopIteration that leaves a coroutine."""
    return "RuntimeError" if (kind, colour) == (StopIteration, "async") else kind.__name__


@pytest.mark.parametrize("colour", ["sync", "async", "atomic"])
@pytest.mark.parametrize("alone", [True, False], ids=["alone", "among many"])
def test_a_body(colour: str, alone: bool) -> None:
    for kind in KINDS:
        made = tool(name="act", effect="atomic" if colour == "atomic" else "pure")(_act(kind, colour))
        other = tool(name="other", effect="pure")(lambda: "fine")
        turns = [Turn(calls=[("act", {}), ("other", {})]), Turn(text="Done.")]
        run = played(turns, [made, other], alone=alone)
        assert_ended_once(run, "succeeded")
        failed, fine = run.tool_calls.order_by("position")
        assert (failed.status, fine.status) == ("failed", "succeeded")
        assert f"broke off with {shown(kind, colour)}" in failed.error
    assert Group.objects.count() == (len(KINDS) if colour == "sync" else 0)


def _act(kind: type[BaseException], colour: str) -> Callable[[], Any]:
    async def act() -> None:
        """Act."""
        raise kind

    def act_in_a_thread() -> None:
        """Act."""
        Group.objects.create(name=str(kind))
        raise kind

    return act if colour == "async" else act_in_a_thread


@pytest.mark.parametrize("colour", COLOURS)
def test_a_check(colour: str) -> None:
    for kind in KINDS:

        @tool(effect=Checkable(raising(kind, colour)), on_error="ask")
        def act() -> None:
            """Break off."""
            raise ConnectionError

        call = played([Turn(calls=[("act", {})]), Turn(text="Done.")], [act]).tool_calls.get()
        assert call.status == "effect_unverified"
        assert f"could not be checked ({shown(kind, colour)})" in call.error


CODES = {
    "loader": "context_failed",
    "instructions": "context_failed",
    "needs_approval": "needs_approval_failed",
    "model": "model_failed",
}


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("where", CODES)
def test_a_function_of_the_agents(colour: str, where: str) -> None:
    for kind in KINDS:
        function = raising(kind, colour)
        options: dict[str, Any] = {"loader": {"context": [function]}, "instructions": {"instructions": function}}
        act = tool(name="act", needs_approval=function)(lambda: None)
        script = [Turn(calls=[("act", {})]), Turn(text="Done.")]
        model = _choosing(function) if where == "model" else script
        run = played(model, [act], **options.get(where, {}))
        assert_ended_once(run, "failed")
        assert run.error_code == CODES[where] and shown(kind, colour) in run.error_detail


def _choosing(function: Callable[..., Any]) -> Callable[[Any], Any]:
    return lambda about: function()  # what it gives back may be a coroutine


class Raises:
    """A model that says a word, and raises."""

    name, provider = "raises", "tests"

    def __init__(self, kind: type[BaseException], *, at_once: bool) -> None:
        self.kind, self.at_once = kind, at_once

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        if not self.at_once:
            yield TextDelta("hello")
        raise self.kind


class RaisesEarly:
    """A model that raises before it has a stream."""

    name, provider = "raises", "tests"

    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind

    def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        raise self.kind


def test_a_models_stream() -> None:
    for kind in KINDS:
        for model in (RaisesEarly(kind), Raises(kind, at_once=True), Raises(kind, at_once=False)):
            run = played(model)
            assert_ended_once(run, "failed")
            assert run.error_code == "model_failed"


def test_a_validator() -> None:
    for kind in KINDS:
        checked = Annotated[str, BeforeValidator(_refusing(kind))]

        def act(text: str) -> None:
            """Act."""

        act.__annotations__["text"] = checked
        answer = create_model("Answer", text=(checked, ...))
        assert played([Turn(calls=[("act", {"text": "x"})]), Turn(text="Done.")], [tool(act)]).terminal
        assert_ended_once(played([Turn(output={"text": "x"})], output=answer), "failed")


def _refusing(kind: type[BaseException]) -> Callable[[Any], Any]:
    def refuse(value: Any) -> Any:
        raise kind

    return refuse
