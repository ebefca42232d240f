"""What the fault tests ask of a run, from outside the processes that drive it."""

from __future__ import annotations

from typing import Any

from agentcore import SYSTEM
from agentcore.models import Run
from tests.testapp import agents

LONG = 40  # seconds; a loaded machine starts a worker slowly


def send(agent: Any, thread: Any, text: str = "go") -> Run:
    run: Run = agent.runs.send(thread, text, user=thread.owner, key=text)
    return run


def status(run: Run) -> str:
    return str(Run.objects.values_list("status", flat=True).get(pk=run.pk))


def events(run: Run) -> list[dict[str, Any]]:
    return list(agents.echo.events.read(run, user=SYSTEM).events)


def assert_log_is_whole(run: Run) -> None:
    log = events(run)
    assert [event["seq"] for event in log] == list(range(len(log)))
    assert [event["type"] for event in log].count("done") == 1
    assert log[-1]["type"] == "done"
