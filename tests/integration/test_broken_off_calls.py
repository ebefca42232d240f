"""What breaks off a call of a tool, and what its row says afterwards."""

from __future__ import annotations

import asyncio

import pytest

from agentcore import Checkable, ToolContext, tool
from agentcore.testing import Turn
from tests.integration.room import drive_as_worker, fresh, make, types

pytestmark = pytest.mark.django_db(transaction=True)


def calls_of(run):
    return [(call.status, call.error) for call in run.tool_calls.order_by("position")]


@pytest.mark.parametrize(("effect", "in_part"), [("pure", False), ("idempotent", True), ("unsafe", True)])
@pytest.mark.parametrize("kind", [asyncio.CancelledError, ConnectionError, TimeoutError])
def test_a_body_that_breaks_off_has_failed_and_may_have_acted_in_part(effect, in_part, kind):
    @tool(effect=effect, timeout=60)
    async def act() -> str:
        """Act."""
        raise kind("reset")

    run = make([Turn(calls=[("act", {})]), Turn(text="ok")], [act]).send()
    drive_as_worker(run)
    ((found, said),) = calls_of(run)
    assert found == "failed" and kind.__name__ in said and "60 seconds" not in said
    assert ("in part" in said) is in_part


def test_every_repetition_is_an_attempt_of_its_own():
    seen = []

    @tool(effect="idempotent", timeout=0.2, retries=1)
    async def act(ctx: ToolContext) -> str:
        """Act."""
        seen.append(ctx.cancelled)
        ctx.progress(len(seen))
        await asyncio.sleep(5 if len(seen) == 1 else 0)
        return "done"

    run = make([Turn(calls=[("act", {})]), Turn(text="ok")], [act]).send()
    drive_as_worker(run)
    assert seen == [False, False]
    assert calls_of(run) == [("succeeded", "")] and types(run).count("tool.progress") == 2


def test_a_checkable_tool_that_broke_off_is_looked_up_before_it_is_repeated():
    done, looked = [], []

    async def check(arguments, ctx):
        looked.append(1)
        return "it happened" if done else None

    @tool(effect=Checkable(check), timeout=0.2, retries=2)
    async def act() -> str:
        """Act."""
        done.append(1)
        await asyncio.sleep(5)
        return "done"

    run = make([Turn(calls=[("act", {})]), Turn(text="ok")], [act]).send()
    drive_as_worker(run)
    assert done == [1] and looked == [1] and calls_of(run) == [("succeeded", "")]


def test_a_checkable_tool_that_did_nothing_is_failed_not_unverified():
    async def check(arguments, ctx):
        return None

    @tool(effect=Checkable(check))
    async def act() -> str:
        """Act."""
        raise ConnectionError("refused")

    run = make([Turn(calls=[("act", {})]), Turn(text="ok")], [act]).send()
    drive_as_worker(run)
    ((status, error),) = calls_of(run)
    assert status == "failed" and "nothing happened" in error


def test_needs_approval_that_raises_names_its_tool():
    def ask(arguments, ctx):
        raise KeyError("x")

    @tool(needs_approval=ask)
    async def act() -> str:
        """Act."""
        return "done"

    run = make([Turn(calls=[("act", {})])], [act]).send()
    drive_as_worker(run)
    assert (fresh(run).status, fresh(run).error_code) == ("failed", "needs_approval_failed")
    assert "act" in fresh(run).error_detail and not run.tool_calls.exists()
