"""Exceptions of the application's that mean something else to a thread or an event loop: they fail a run, once."""

from __future__ import annotations

import asyncio
from operator import attrgetter
from typing import Any

import pytest

from agentcore import Checkable, tool
from agentcore.engine.runtime import Runtime
from agentcore.engine.threads import BrokeOff
from agentcore.testing import Turn
from tests.integration.room import assert_ended_once, driven, fresh, make, types

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def _short_timeout(settings: Any) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "TOOL_TIMEOUT": 3}


def stops(*args: Any) -> Any:
    """Forget the default of a next()."""
    return next(iter(()))


@pytest.mark.parametrize("options", [{"inline": True}, {}, {"own_threads": True}], ids=str)
@pytest.mark.parametrize(
    ("where", "expected"), [("threads.run", BrokeOff), ("db", RuntimeError), ("read", RuntimeError)], ids=str
)
def test_a_stop_iteration_reaches_whoever_waits_for_the_thread(
    where: str, expected: type[Exception], options: dict[str, bool]
) -> None:
    async def ask() -> None:
        runtime = Runtime("worker", **options)
        try:
            await asyncio.wait_for(attrgetter(where)(runtime)(stops), 3)
        finally:
            await runtime.aclose()

    with pytest.raises(expected) as caught:
        asyncio.run(ask())
    assert isinstance(caught.value.__cause__, StopIteration)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"context": [stops]}, "context_failed"),
        ({"instructions": stops}, "context_failed"),
        ({"model_settings": stops}, "model_failed"),
        ({}, "needs_approval_failed"),
    ],
    ids=["loader", "instructions", "settings", "needs_approval"],
)
def test_a_stop_iteration_of_the_application_fails_the_run_at_once(options: dict[str, Any], code: str) -> None:
    @tool(needs_approval=stops)
    def act() -> str:
        """Act."""
        return "done"

    run = make([Turn(calls=[("act", {})]), Turn(text="ok")], [act], **options).send()
    with driven(run):
        pass
    assert (fresh(run).status, fresh(run).error_code) == ("failed", code)
    assert "StopIteration" in fresh(run).error_detail


async def leaks_a_cancel(*args: Any) -> Any:
    """Await a task of its own that a library has cancelled."""
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    "options",
    [{"context": [leaks_a_cancel]}, {"instructions": leaks_a_cancel}, {"model_settings": leaks_a_cancel}, {}],
    ids=["loader", "instructions", "settings", "needs_approval"],
)
def test_a_cancel_that_the_application_lets_out_fails_the_run_and_is_no_drain(options: dict[str, Any]) -> None:
    @tool(needs_approval=leaks_a_cancel)
    def act() -> str:
        """Act."""
        return "done"

    run = make([Turn(calls=[("act", {})]), Turn(text="ok")], [act], **options).send()
    with driven(run):
        pass
    assert_ended_once(run, "failed")
    assert "CancelledError" in fresh(run).error_detail
    assert "run.released" not in types(run)


def test_a_check_that_lets_a_cancel_out_tells_nothing() -> None:
    @tool(effect=Checkable(leaks_a_cancel), on_error="ask")
    async def act() -> str:
        """Act."""
        raise ConnectionError("reset")

    run = make([Turn(calls=[("act", {})]), Turn(text="ok")], [act]).send()
    with driven(run):
        pass
    assert fresh(run).status == "waiting"
    call = run.tool_calls.get()
    assert (call.status, "could not be checked (CancelledError)" in call.error) == ("effect_unverified", True)
