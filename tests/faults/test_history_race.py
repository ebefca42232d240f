"""Second runs of many threads, looked at all the time while the first ones end: none misses the first answer."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from django.db import connections

from agentcore import SYSTEM, Agent, registry
from agentcore.engine.runtime import Runtime
from agentcore.models import Run
from agentcore.providers.base import ModelRequest, StepFinished, TextDelta
from agentcore.services import execution

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
    runtime = Runtime("worker", alone=False)
    try:
        for start in range(0, len(pairs), 10):
            await asyncio.gather(*(race(runtime, *pair) for pair in pairs[start : start + 10]))
    finally:
        await runtime.aclose()


@pytest.mark.timeout(500)
@pytest.mark.covers("fc:B1")
def test_of_two_hundred_second_runs_each_has_read_the_first_answer() -> None:
    with registry.isolated():
        agent = Agent(name="test", model=Counts())
        threads = [agent.threads.create(user=SYSTEM) for _ in range(ROUNDS)]
        pairs = [
            (agent.runs.send(thread, "one", user=SYSTEM), agent.runs.send(thread, "two", user=SYSTEM))
            for thread in threads
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
