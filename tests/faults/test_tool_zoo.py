"""Whatever a tool does, its call ends, the model is told, and the worker goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import LazySettings

from agentcore.engine.runtime import Runtime
from agentcore.models import ToolCall
from agentcore.services import execution
from agentcore.testing import Turn, check_invariants
from tests.faults import tool_zoo as zoo
from tests.integration.room import make
from tests.stack import wait_for

pytestmark = pytest.mark.django_db(transaction=True)
LIMIT = 100_000


@pytest.fixture(autouse=True)
def _clean(settings: LazySettings) -> Iterator[None]:
    # A result that a coroutine gave is read on the loop: of a huge one, a busy machine takes longer than a short lease.
    settings.AGENTCORE = {**settings.AGENTCORE, "LEASE_SECONDS": 60}
    zoo.RELEASE.clear()
    yield
    zoo.RELEASE.set()
    assert check_invariants() == []


def played(tool: Any, **arguments: Any) -> tuple[Any, ToolCall]:
    """A run whose model asks for one call, and then says what it likes."""
    room = make([Turn(calls=[(tool.name, arguments)]), Turn(text="Done.")], [tool])
    run = room.play()
    return run, ToolCall.objects.get(run=run)


# --- M10: what comes back -----------------------------------------------------------------------------------------


@pytest.mark.covers("fault:M10")
@pytest.mark.parametrize("what", zoo.RESULTS)
@pytest.mark.parametrize("tool", [zoo.give, zoo.give_async], ids=["sync", "async"])
def test_any_result_is_kept_as_json_of_a_bounded_size(tool: Any, what: str) -> None:
    run, call = played(tool, what=what)
    assert (run.status, call.status) == ("succeeded", "succeeded")
    assert len(call.result) < 2 * LIMIT
    if "megabytes" in what:
        assert "sha256" in call.result


# --- M10: what is raised ------------------------------------------------------------------------------------------


@pytest.mark.covers("fault:M10")
@pytest.mark.parametrize("how", zoo.FAULTS)
@pytest.mark.parametrize("tool", [zoo.fail_pure, zoo.fail_unsafe])
def test_what_a_tool_raises_is_told_by_its_kind_and_not_by_its_words(tool: Any, how: str) -> None:
    run, call = played(tool, how=how)
    assert (run.status, call.status) == ("succeeded", "failed")
    assert "broke off with" in call.error and "secret detail" not in call.error


@pytest.mark.covers("fault:M10")
def test_a_tool_that_says_that_nothing_was_done_has_failed_and_is_quoted() -> None:
    run, call = played(zoo.decline, why="The account is closed.")
    assert (run.status, call.status, call.error) == ("succeeded", "failed", "The account is closed.")


# --- M10: what does not end ---------------------------------------------------------------------------------------


@pytest.mark.covers("fault:M10")
def test_a_coroutine_that_hangs_is_ended_at_its_timeout() -> None:
    run, call = played(zoo.hang_async)
    assert (run.status, call.status) == ("succeeded", "failed")
    assert "did not end within 0.3 seconds" in call.error


@pytest.mark.covers("fault:M10", "fault:M12")
def test_a_thread_that_hangs_is_left_behind_and_counted_until_it_ends() -> None:
    run = make([Turn(calls=[("hang", {})]), Turn(text="Done.")], [zoo.hang]).send()
    runtime = Runtime("worker")
    execution.drive(run.pk, runtime)
    run.refresh_from_db()
    assert (run.status, ToolCall.objects.get(run=run).status) == ("succeeded", "failed")
    assert runtime.threads.stuck() == 1
    zoo.RELEASE.set()
    wait_for(lambda: runtime.threads.stuck() == 0, 10, "the thread to end")
    assert ToolCall.objects.get(run=run).status == "failed"  # what it says now is too late


@pytest.mark.covers("fault:M10", "fault:M12")
def test_a_tool_that_leaves_a_thread_behind_does_not_hold_up_its_run() -> None:
    run, call = played(zoo.leave_a_thread)
    assert (run.status, call.result) == ("succeeded", '"left one"')
    assert [thread.name for thread in threading.enumerate()].count("left-behind") == 1
