"""A tool in a process of its own takes nothing with it: no thread, no child, no worker."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import AbstractUser

from agentcore import isolated
from agentcore.engine.runtime import Runtime
from agentcore.exceptions import UserError
from agentcore.models import Run, ToolCall
from agentcore.services import execution
from agentcore.testing import Turn, check_invariants
from tests.faults import isolated_tools as tools
from tests.integration.room import log, make
from tests.programs import lives
from tests.stack import database_url, wait_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once, pytest.mark.covers("fault:M12")]


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DATABASE_URL", database_url())
    yield
    assert check_invariants() == []


def played(tool: Any, **arguments: Any) -> tuple[Run, ToolCall]:
    run = make([Turn(calls=[(tool.name, arguments)]), Turn(text="Done.")], [tool]).send()
    execution.drive(run.pk, Runtime("worker"))
    run.refresh_from_db()
    return run, ToolCall.objects.get(run=run)


def test_it_runs_elsewhere_with_its_context_and_shows_progress() -> None:
    run, call = played(tools.who, text="ab", often=2)
    assert run.status == "succeeded"
    result = call.result_json
    assert (result["key"], result["call"], result["text"]) == (str(call.pk), call.call_id, "abab")
    assert result["pid"] != os.getpid() and not lives(result["pid"])
    assert [event["value"] for event in log(run) if event["type"] == "tool.progress"] == [{"half": True}]


@pytest.mark.covers("fc:A3")
def test_it_is_given_typed_arguments_under_its_own_names_there() -> None:
    _, call = played(tools.post, to={"zipCode": "8000"}, on="2026-01-02", tags=["b", "a"])
    given = ("8000", date(2026, 1, 2), ["a", "b"], Decimal("0.10"))
    assert (call.status, call.result) == ("succeeded", json.dumps(repr(given))), call.error


def test_it_uses_the_database_on_a_connection_of_its_own(user: AbstractUser) -> None:
    assert played(tools.count_people)[1].result == "1"


def test_broken_off_it_is_killed_with_all_it_started(tmp_path: Path) -> None:
    """A timeout and a cancel break a call off in the same way."""
    noted = tmp_path / "pids"

    async def break_off() -> None:
        call = asyncio.create_task(tools.hang_with_child.function(pids=str(noted)))
        await asyncio.to_thread(wait_for, lambda: noted.exists() and noted.read_text().count(" ") == 1, 60, "the pids")
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(asyncio.wait_for(break_off(), 60))
    pids = [int(pid) for pid in noted.read_text().split()]
    wait_for(lambda: not any(map(lives, pids)), 10, "both processes to be gone")


@pytest.mark.parametrize(
    ("how", "status", "says"),
    [
        ("segv", "effect_unverified", "ended with status -11"),
        ("_exit", "effect_unverified", "ended with status"),
        ("exit", "failed", "broke off with SystemExit"),
        ("raise", "failed", "broke off with ValueError"),
    ],
)
def test_a_crash_is_the_calls_and_nobody_elses(how: str, status: str, says: str) -> None:
    run, call = played(tools.crash, how=how)
    assert (run.status, call.status) == ("waiting" if status == "effect_unverified" else "succeeded", status)
    assert says in call.error and "secret" not in call.error


@pytest.mark.parametrize(("how", "says"), [("retry", "Say it otherwise."), ("failed", "The account is closed.")])
def test_what_it_says_to_the_model_gets_there(how: str, says: str) -> None:
    run, call = played(tools.decline, how=how)
    assert (run.status, call.status, call.error) == ("succeeded", "failed", says)


def test_what_it_gives_back_is_bounded_before_it_comes_over() -> None:
    assert "sha256" in played(tools.give_much)[1].result


def test_only_a_function_that_another_process_can_find_may_be_isolated() -> None:
    def inner() -> None:
        """Stay inside."""

    async def asynchronous() -> None:
        """Wait."""

    for function in (inner, asynchronous, lambda: None):
        with pytest.raises(UserError, match="at the top of its module"):
            isolated(function)
