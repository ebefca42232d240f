"""The results of a round's calls: what is ready at the same moment is one commit, and waits for no other call."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from django.db import IntegrityError

from agentcore import Tool, tool
from agentcore.journal import writer
from agentcore.journal.commit import Commit, Request
from agentcore.models import Run, ToolCall
from agentcore.testing import Turn
from agentcore.values.events import StepStarted, ToolResult
from tests.integration.room import assert_ended_once, drive_as_worker, fresh, make

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_agents")]

NAMES = ("one", "two", "three", "four")


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> list[Commit]:
    """What was written, in order."""
    found: list[Commit] = []
    real = writer.commit_batch

    def commit_batch(requests: Sequence[Request]) -> Any:
        answers = real(requests)
        found.extend(request.commit for request in requests)
        return answers

    monkeypatch.setattr(writer, "commit_batch", commit_batch)
    return found


def results(commit: Commit) -> list[str]:
    return [event.name for event in commit.events if isinstance(event, ToolResult)]


def succeeded(commit: Commit) -> list[str]:
    return [event.name for event in commit.events if isinstance(event, ToolResult) and event.status == "succeeded"]


def asked(tools: Sequence[Tool]) -> Run:
    calls = [(each.name, {}) for each in tools]
    return make([Turn(calls=calls), Turn(text="Done.")], tools).send()


def named(name: str, body: Any) -> Tool:
    async def function() -> str:
        """Do it."""
        await body()
        return name

    function.__name__ = name
    return tool(function)


def test_results_that_are_there_at_the_same_moment_are_one_commit_with_the_next_steps_start(
    commits: list[Commit],
) -> None:
    async def at_once() -> None:
        return

    run = asked([named(name, at_once) for name in NAMES])
    drive_as_worker(run)
    assert_ended_once(run, "succeeded")
    (together,) = [commit for commit in commits if results(commit)]
    assert sorted(results(together)) == sorted(NAMES)
    assert any(isinstance(event, StepStarted) for event in together.events)


def test_a_result_is_committed_while_another_call_of_its_round_still_runs(commits: list[Commit]) -> None:
    async def until_the_other_is_stored() -> None:
        async with asyncio.timeout(20):
            while ["quick"] not in map(results, commits):  # noqa: ASYNC110 - the journal's thread writes it
                await asyncio.sleep(0.01)

    async def at_once() -> None:
        return

    tools = [named("quick", at_once), named("slow", until_the_other_is_stored)]
    run = asked(tools)
    drive_as_worker(run)
    assert_ended_once(run, "succeeded")
    assert [results(commit) for commit in commits if results(commit)] == [["quick"], ["slow"]]


def test_a_result_that_the_database_refuses_takes_no_other_with_it(
    commits: list[Commit], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def at_once() -> None:
        return

    real = writer.commit_batch

    def refusing(requests: Sequence[Request]) -> Any:
        refused = [IntegrityError("no") if "two" in succeeded(request.commit) else None for request in requests]
        answers = iter(real([request for request, no in zip(requests, refused, strict=True) if no is None]))
        return [no or next(answers) for no in refused]

    monkeypatch.setattr(writer, "commit_batch", refusing)
    run = asked([named(name, at_once) for name in NAMES])
    drive_as_worker(run)
    assert_ended_once(run, "failed")
    assert fresh(run).error_code == "internal_error"
    ended = dict(ToolCall.objects.filter(run=run).values_list("name", "status"))
    assert {ended[name] for name in ("one", "three", "four")} == {"succeeded"} and ended["two"] != "succeeded"
