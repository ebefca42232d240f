"""Second runs of a thread, looked at before the first ones end and claimed after that: none misses the first answer."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from django.db import connections

from agentcore import SYSTEM, Agent
from agentcore.engine.runtime import Runtime
from agentcore.models import Run
from agentcore.providers import ModelRequest, StepFinished, TextDelta
from agentcore.services import execution
from agentcore.testing.faults.plans import Marks
from tests.faults.runs import LONG, failpoints, send, status, wait_for_success, words
from tests.stack import Stack, wait_for
from tests.testapp import agents

pytestmark = pytest.mark.django_db(transaction=True)
ROUNDS = 200
LONGEST = 400  # seconds, on a busy machine


class Counts:
    """Says how many answers it was shown."""

    name, provider = "counts", "tests"

    async def stream(self, request: ModelRequest) -> Any:
        yield TextDelta(str(sum(message.author == "agent" for message in request.messages)))
        yield StepFinished("stop")


async def race(runtime: Runtime, first: Run, second: Run) -> None:
    """Drive the first run, and look at the second one all the while, as a flood of hints does."""

    async def look() -> None:
        while not await runtime.read(Run.objects.filter(pk=second.pk, status="succeeded").exists):
            await execution.adrive(second.pk, runtime)

    await asyncio.gather(execution.adrive(first.pk, runtime), look())


async def all_rounds(pairs: list[tuple[Run, Run]]) -> None:
    runtime = Runtime("worker", alone=False, own_threads=True)
    try:
        for start in range(0, len(pairs), 10):
            await asyncio.gather(*(race(runtime, *pair) for pair in pairs[start : start + 10]))
    finally:
        await runtime.aclose()


@pytest.mark.longer
@pytest.mark.timeout(500)
@pytest.mark.covers("fc:B1")
def test_of_two_hundred_second_runs_each_has_read_the_first_answer() -> None:
    agent = Agent(name="test", model=Counts())
    threads = [agent.threads.create(user=SYSTEM) for _ in range(ROUNDS)]
    pairs = [
        (agent.runs.send(thread, "one", user=SYSTEM), agent.runs.send(thread, "two", user=SYSTEM)) for thread in threads
    ]
    failures: list[BaseException] = []

    def work() -> None:
        try:
            asyncio.run(all_rounds(pairs))
        except BaseException as error:  # noqa: BLE001 - the test shows it
            failures.append(error)
        finally:
            connections.close_all()

    worker = threading.Thread(target=work)
    worker.start()
    worker.join(LONGEST)
    assert not worker.is_alive() and failures == []
    said = [run.messages.get(author_kind="agent").text for pair in pairs for run in pair]
    assert said == ["0", "1"] * ROUNDS


@pytest.mark.covers("fc:B1")
def test_a_worker_that_has_looked_before_the_first_run_ended_reads_again(stack: Stack, make_thread: Any) -> None:
    stack.hold_tools()
    thread, marks = make_thread("recaller"), Marks(stack.directory)
    first = send(agents.recaller, thread, "one")
    busy = stack.worker("stock")  # has its hands full with the first run
    wait_for(lambda: status(first) == "running", LONG, "the first run's model to be asked")
    stack.worker(**failpoints(stack.directory, after_look="hold"))
    second = send(agents.recaller, thread, "two")
    wait_for(lambda: marks.reached("after_look"), LONG, "a look at the second run")
    busy.ask_to_finish()  # so that it is the other one, which has looked before, that drives the second run
    stack.release_tools()
    wait_for_success(first)
    marks.release("after_look")
    wait_for_success(second)
    assert [words(run) for run in (first, second)] == [["0"], ["1"]]
