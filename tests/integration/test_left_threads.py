"""A thread cannot be stopped: what a sync tool may still do, or never came to do, when its time is up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from agentcore import Checkable, Tool, ToolContext, tool
from agentcore.engine import threads
from agentcore.engine.runtime import Runtime
from agentcore.services import execution
from agentcore.testing import Turn
from tests.integration.room import driven, fresh, make, race

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def let_go() -> Iterator[threading.Event]:
    """Set when the threads that hang may end, at the latest when the test is over."""
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize("effect", ["unsafe", "idempotent"])
def test_a_tool_that_no_thread_was_free_for_has_failed_and_never_runs(
    monkeypatch: pytest.MonkeyPatch, let_go: threading.Event, effect: str
) -> None:
    monkeypatch.setattr(threads, "APP_THREADS", 1)
    ran, ended = [], threading.Event()

    @tool(effect="pure", timeout=0.6)
    def hang() -> None:
        """Keep the only thread."""
        let_go.wait(20)
        ended.set()

    @tool(effect=effect, timeout=0.3)
    def act() -> None:
        """Act."""
        ran.append(1)

    run = make([Turn(calls=[("hang", {}), ("act", {})]), Turn(text="ok")], [hang, act]).send()
    with driven(run):
        pass
    let_go.set()
    assert ended.wait(10)
    call = run.tool_calls.get(name="act")
    assert (call.status, ran) == ("failed", [])
    assert call.error == "The tool did not start within 0.3 seconds."
    assert fresh(run).status == "succeeded"


def test_a_repetition_that_did_not_start_does_not_hide_that_the_first_may_have_happened(
    monkeypatch: pytest.MonkeyPatch, let_go: threading.Event
) -> None:
    monkeypatch.setattr(threads, "APP_THREADS", 1)

    @tool(effect="idempotent", timeout=0.3, retries=1)
    def act() -> None:
        """Act, and keep the only thread."""
        let_go.wait(20)

    run = make([Turn(calls=[("act", {})]), Turn(text="ok")], [act]).send()
    with driven(run):
        pass
    call = run.tool_calls.get()
    assert call.status == "effect_unverified" and "did not end" in call.error


@dataclass
class Shop:
    """Where a tool buys something, slowly; its check tells whether it has."""

    bought: list[int] = field(default_factory=list)
    entered: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)

    def check(self, arguments: Any, ctx: ToolContext) -> str | None:
        """Look into the books."""
        return "bought" if self.bought else None

    def tool(self, **options: Any) -> Tool:
        """The tool, whose body buys when `go_on` lets it."""

        @tool(effect=Checkable(self.check), **options)
        def buy() -> str:
            """Buy."""
            self.entered.set()
            self.go_on.wait(20)
            self.bought.append(1)
            self.left.set()
            return "bought"

        return buy


@pytest.fixture
def shop() -> Iterator[Shop]:
    """A shop that lets everybody go on when the test is over."""
    made = Shop()
    yield made
    made.go_on.set()


def test_a_check_is_not_believed_that_nothing_happened_while_the_body_still_runs(shop: Shop) -> None:
    run = make([Turn(calls=[("buy", {})]), Turn(text="ok")], [shop.tool(timeout=0.3, retries=3)]).send()
    with driven(run):
        pass
    shop.go_on.set()
    assert shop.left.wait(10)
    call = run.tool_calls.get()
    assert call.status == "effect_unverified" and "did not end" in call.error
    assert (fresh(run).status, shop.bought) == ("waiting", [1])


def test_a_body_that_still_runs_when_its_run_is_handed_over_does_not_run_again_beside_itself(shop: Shop) -> None:
    run = make([Turn(calls=[("buy", {})]), Turn(text="ok")], [shop.tool()]).send()

    async def hand_over() -> None:
        runtime = Runtime("worker", alone=False, own_threads=True)
        driving = asyncio.create_task(execution.adrive(run.pk, runtime))
        await asyncio.to_thread(shop.entered.wait, 10)
        driving.cancel()
        await asyncio.gather(driving, return_exceptions=True)
        await runtime.aclose()

    race(lambda: asyncio.run(hand_over()))
    assert (fresh(run).status, run.tool_calls.get().status) == ("pending", "effect_unverified")
    with driven(run):
        pass
    shop.go_on.set()
    assert shop.left.wait(10)
    assert (fresh(run).status, shop.bought) == ("waiting", [1])
