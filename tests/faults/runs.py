"""What the fault tests ask of a run, from outside the processes that drive it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agentcore import SYSTEM
from agentcore.models import Run
from tests.stack import wait_for
from tests.testapp import agents

LONG = 40  # seconds; a loaded machine starts a worker slowly


def settings_of_process(**values: Any) -> dict[str, str]:
    """The environment that changes agentcore's settings for one process."""
    return {"AGENTCORE_TEST_SETTINGS": json.dumps(values)}


def failpoints(directory: Path, **actions: str) -> dict[str, str]:
    """The environment that makes processes meet failpoints; each fires once in all that share the directory."""
    spec = ";".join(f"{name}={action}" for name, action in actions.items())
    return {"AGENTCORE_FAILPOINTS": spec, "AGENTCORE_FAILPOINT_DIR": str(directory)}


def driver_of(run: Run) -> int:
    """The pid of the process that drives a run, or drove it last."""
    return int(Run.objects.get(pk=run.pk).worker.rpartition(":")[2])


def send(agent: Any, thread: Any, text: str = "go") -> Run:
    run: Run = agent.runs.send(thread, text, user=thread.owner, key=text)
    return run


def status(run: Run) -> str:
    return str(Run.objects.values_list("status", flat=True).get(pk=run.pk))


def events(run: Run) -> list[dict[str, Any]]:
    return list(agents.echo.events.read(run, user=SYSTEM).events)


def types(run: Run) -> list[str]:
    """The types of the run's events."""
    return [event["type"] for event in events(run)]


def assert_log_is_whole(run: Run) -> None:
    log = events(run)
    assert [event["seq"] for event in log] == list(range(len(log)))
    assert [event["type"] for event in log].count("done") == 1
    assert log[-1]["type"] == "done"


def wait_for_success(run: Run) -> None:
    """Wait until the run has succeeded; its log is then whole."""
    wait_for(lambda: status(run) == "succeeded", LONG, "the run to succeed")
    assert_log_is_whole(run)


def words(run: Run) -> list[str]:
    """What a run has said since its last reset."""
    log = events(run)
    resets = [index for index, event in enumerate(log) if event["type"] == "step.reset"]
    return "".join(event["text"] for event in log[max(resets, default=0) :] if event["type"] == "text.delta").split()


def in_order(numbers: list[str]) -> bool:
    """Whether these are the numbers from 0 on, none lost and none said twice."""
    return numbers == [str(number) for number in range(len(numbers))]


def assert_counted_on(run: Run) -> None:
    """A run of `agents.counter` has, since its last reset, lost none of its numbers and said none twice."""
    *numbers, last = words(run)
    assert last == "done" and in_order(numbers)
