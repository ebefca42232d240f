"""What a model call works on is what was committed when its run was claimed, whoever wrote to the thread meanwhile."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from agentcore import SYSTEM, Agent, ToolResultPart, tool
from agentcore.engine.runtime import Runtime
from agentcore.journal import write
from agentcore.models import Run, Step
from agentcore.providers import CallRequested, ModelEvent, ModelRequest, StepFinished, TextDelta
from agentcore.services import execution
from agentcore.testing.faults.plans import armed
from tests.integration.live import eventually

pytestmark = pytest.mark.django_db(transaction=True)


class Counts:
    """Says how many answers it was shown."""

    name, provider = "counts", "tests"

    async def stream(self, request: ModelRequest) -> Any:
        shown = [message for message in request.messages if message.author == "agent"]
        yield TextDelta(str(len(shown)))
        yield StepFinished("stop")


@tool(needs_approval=True, effect="pure")
def pay(cents: int) -> str:
    """Pay somebody."""
    return "paid"


class AsksFirst(Counts):
    """Asks for a payment in the first run, and later says how many answers and results it was shown."""

    async def stream(self, request: ModelRequest) -> Any:
        prompts = [message for message in request.messages if message.author == "user"]
        if len(prompts) == 1 and request.step == 1:
            yield CallRequested("c1", "pay", {"cents": 5})
            yield StepFinished("tool_calls")
            return
        results = [part for message in request.messages for part in message.parts if isinstance(part, ToolResultPart)]
        event: ModelEvent
        for event in [TextDelta(f"{len(results)} results"), StepFinished("stop")]:
            yield event


def answers(thread: Any) -> list[str]:
    """What the thread's runs have said, in their order."""
    return [run.messages.get(author_kind="agent").text for run in Run.objects.filter(thread=thread).order_by("number")]


def elsewhere(act: Callable[[], Any]) -> None:
    """Do something on a connection of its own, as another process would."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - the test raises it
            failures.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    if failures:
        raise failures[0]


def once(act: Callable[[], Any]) -> Callable[[], Any]:
    """What a failpoint does: `act` the first time, on another connection, and nothing from then on."""
    done: list[bool] = []

    async def meet() -> None:
        if not done:
            done.append(True)
            await asyncio.to_thread(elsewhere, act)

    return meet


@pytest.mark.covers("fc:B1")
@pytest.mark.parametrize("on_busy", ["queue", "parallel"])
def test_a_run_that_ends_between_the_look_and_the_claim_is_read(on_busy: Any) -> None:
    agent = Agent(name="test", model=Counts(), on_busy=on_busy)
    thread = agent.threads.create(user=SYSTEM)
    first, second = (agent.runs.send(thread, text, user=SYSTEM) for text in ("one", "two"))
    with armed(after_look=once(lambda: execution.drive(first.pk, Runtime("other")))):
        execution.drive(second.pk, Runtime("worker", inline=True))
    assert answers(thread) == ["0", "1"]


@pytest.mark.covers("fc:B1")
def test_what_a_cancel_writes_between_the_look_and_the_claim_is_read() -> None:
    agent = Agent(name="test", model=AsksFirst(), tools=[pay], on_busy="parallel")
    thread = agent.threads.create(user=SYSTEM)
    first = agent.runs.send(thread, "one", user=SYSTEM)
    execution.drive(first.pk, Runtime("worker", inline=True))
    assert Run.objects.get(pk=first.pk).status == "waiting"
    second = agent.runs.send(thread, "two", user=SYSTEM)
    with armed(after_look=once(lambda: agent.runs.cancel(first, user=SYSTEM))):
        execution.drive(second.pk, Runtime("worker", inline=True))
    assert second.messages.get(author_kind="agent").text == "1 results"


@pytest.mark.covers("fc:B1")
def test_a_claim_is_refused_where_its_history_is_old_and_made_after_another_look(monkeypatch: Any, caplog: Any) -> None:
    agent = Agent(name="test", model=Counts(), on_busy="parallel")
    thread = agent.threads.create(user=SYSTEM)
    first, second = (agent.runs.send(thread, text, user=SYSTEM) for text in ("one", "two"))
    real, claimed = write.write, list[str]()

    def noted(requests: Any) -> Any:
        answers = real(requests)
        claimed.extend(type(answers[item.row.run_id]).__name__ for item in requests if item.claims)
        return answers

    def first_ends() -> None:
        execution.drive(first.pk, Runtime("other"))
        monkeypatch.setattr(write, "write", noted)

    with armed(after_look=once(first_ends)), caplog.at_level(logging.INFO, "agentcore"):
        execution.drive(second.pk, Runtime("worker", inline=True))
    assert claimed == ["NotClaimed", "Allocation"] and answers(thread) == ["0", "1"]
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.covers("fc:B1")
def test_a_claim_in_one_commit_with_the_answer_it_has_not_read_is_made_after_that() -> None:
    model = SpeaksLate()
    agent = Agent(name="test", model=model, on_busy="parallel")
    thread = agent.threads.create(user=SYSTEM)
    first, second = (agent.runs.send(thread, text, user=SYSTEM) for text in ("one", "two"))
    elsewhere(lambda: asyncio.run(commit_together(model, first, second)))
    assert answers(thread) == ["0", "1"]


class SpeaksLate(Counts):
    """Says how many answers it was shown, once it may."""

    def __init__(self) -> None:
        self.is_asked, self.may_speak = asyncio.Event(), asyncio.Event()

    async def stream(self, request: ModelRequest) -> Any:
        self.is_asked.set()
        await self.may_speak.wait()
        async for event in super().stream(request):
            yield event


async def commit_together(model: SpeaksLate, first: Run, second: Run) -> None:
    """Drive both in one process, which has the end of the first and the claim of the second to commit at once."""
    runtime = Runtime("worker", alone=False, own_threads=True)
    journal, looks, sizes = runtime.journal, list[bool](), list[int]()

    async def until(is_there: Callable[[Any], Any]) -> None:
        await eventually(lambda: any(is_there(sent.request) for sent in journal._waiting))

    async def write() -> None:
        await until(lambda request: request.claims)
        sizes.append(len(journal._waiting))
        await journal._write_all()

    async def hold() -> None:
        looks.append(True)
        if len(looks) == 1:  # it has read the history
            journal._writing = asyncio.create_task(write())
            model.may_speak.set()
            await until(lambda request: request.commit.messages)

    try:
        ahead = asyncio.create_task(execution.adrive(first.pk, runtime))
        await model.is_asked.wait()
        await journal.settled()
        with armed(after_look=hold):
            await asyncio.gather(ahead, execution.adrive(second.pk, runtime))
    finally:
        await runtime.aclose()
    assert sizes == [2]


@pytest.mark.covers("fc:B1")
def test_a_thread_that_never_stands_still_is_read_once_its_run_is_claimed() -> None:
    agent = Agent(name="test", model=Counts(), on_busy="parallel")
    thread = agent.threads.create(user=SYSTEM)
    agent.messages.save(thread, "Hello.", user=SYSTEM)
    run = agent.runs.send(thread, "last", user=SYSTEM)

    async def write() -> None:
        await asyncio.to_thread(elsewhere, lambda: agent.messages.save(thread, "More.", user=SYSTEM))

    with armed(after_look=write):
        execution.drive(run.pk, Runtime("worker", inline=True))
    assert Run.objects.get(pk=run.pk).status == "succeeded"


@pytest.mark.covers("fc:B1")
@pytest.mark.parametrize("waits_for", ["its time", "its turn"])
def test_a_run_that_may_not_be_claimed_yet_is_looked_at_once(waits_for: str) -> None:
    agent = Agent(name="test", model=Counts())
    thread = agent.threads.create(user=SYSTEM)
    run = agent.runs.send(thread, "one", user=SYSTEM)
    if waits_for == "its time":
        Run.objects.filter(pk=run.pk).update(available_at=timezone.now() + timedelta(hours=1))
    else:
        run = agent.runs.send(thread, "two", user=SYSTEM)
    looks: list[bool] = []
    with armed(after_look=lambda: looks.append(True)):
        assert execution.drive(run.pk, Runtime("worker", inline=True)) == "nothing"
    assert len(looks) == 1


@pytest.mark.covers("fc:B1")
def test_a_run_alone_in_its_thread_takes_no_more_commits_for_it() -> None:
    agent = Agent(name="test", model=Counts())
    thread = agent.threads.create(user=SYSTEM)
    for text in ("one", "two"):
        run = agent.runs.send(thread, text, user=SYSTEM)
        commits: list[int] = []
        with armed(after_commit=lambda commits=commits: commits.append(1)):
            execution.drive(run.pk, Runtime("worker", inline=True))
        assert Step.objects.get(run=run).status == "finished"
        assert len(commits) == 2  # the claim with its step, and the end
