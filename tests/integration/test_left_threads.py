"""A thread cannot be stopped: what a sync tool may still do, or never came to do, when its time is up."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from agentcore import registry, tool
from agentcore.engine import runtime
from agentcore.testing import Turn
from tests.integration.room import driven, fresh, make

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    with registry.isolated():
        yield


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
    monkeypatch.setattr(runtime, "APP_THREADS", 1)
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
    assert "did not start" in call.error
    assert fresh(run).status == "succeeded"


def test_a_repetition_that_did_not_start_does_not_hide_that_the_first_may_have_happened(
    monkeypatch: pytest.MonkeyPatch, let_go: threading.Event
) -> None:
    monkeypatch.setattr(runtime, "APP_THREADS", 1)

    @tool(effect="idempotent", timeout=0.3, retries=1)
    def act() -> None:
        """Act, and keep the only thread."""
        let_go.wait(20)

    run = make([Turn(calls=[("act", {})]), Turn(text="ok")], [act]).send()
    with driven(run):
        pass
    call = run.tool_calls.get()
    assert call.status == "effect_unverified" and "did not end" in call.error
