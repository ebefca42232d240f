"""An agent that runs may play side by side, and runs of it that wait."""

from __future__ import annotations

import pytest

from agentcore import SYSTEM, Agent
from agentcore.models import Run
from tests.integration.journal.together import RUNS, EachItsOwn, add


@pytest.fixture
def agent() -> Agent:
    """An agent that asks for one tool, and then says three words."""
    return Agent(name="test", model=EachItsOwn(), tools=[add], on_busy="parallel")


@pytest.fixture
def sent(agent: Agent, long_lease: None) -> list[Run]:
    """Runs that wait, each in a thread of its own."""
    return [agent.runs.send(agent.threads.create(user=SYSTEM), "Add.", user=SYSTEM) for _ in range(RUNS)]
