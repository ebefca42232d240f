"""What the database must hold after a workload, and the making of its runs; a measurement that stored less is none."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from agentcore import SYSTEM
from agentcore.models import Run, Thread
from agentcore.streams.models import Record
from benchmarks.app.agents import weather_agents
from benchmarks.workload import PROMPT, W1, Workload


def new_thread(user: Any = SYSTEM) -> Thread:
    """Make a thread, which takes the runs of any agent."""
    return weather_agents[W1.name].threads.create(user=user)


def send(thread: Thread, workload: Workload = W1) -> Run:
    """Send the prompt."""
    return weather_agents[workload.name].runs.send(thread, PROMPT, user=SYSTEM)


def pending() -> list[UUID]:
    """Return the runs that nobody has begun, oldest first."""
    return list(Run.objects.filter(status="pending").order_by("created_at").values_list("pk", flat=True))


def log(run: Run) -> list[dict[str, Any]]:
    """Return a run's whole log."""
    records = Record.objects.filter(stream=run.stream_id).order_by("seq").values_list("data", flat=True)
    return [json.loads(bytes(data)) for data in records]


def deltas(run: Run) -> str:
    """Return the text of a run's deltas, as a reader of its log puts it together."""
    return "".join(event["text"] for event in log(run) if event["type"] == "text.delta")


def check(run_ids: Iterable[UUID], workload: Workload = W1, sampled: int = 20) -> None:
    """Raise where a run did not succeed, or one of a sample did not store every delta."""
    wanted = list(run_ids)
    found = list(Run.objects.filter(pk__in=wanted, status="succeeded"))
    if len(found) != len(wanted):
        raise AssertionError(f"{len(wanted) - len(found)} of {len(wanted)} runs did not succeed")
    check_deltas(found[:: max(1, len(found) // sampled)], workload)


def check_deltas(runs: Sequence[Run], workload: Workload) -> None:
    """Raise where the log of a run does not say the words."""
    for run in runs:
        if deltas(run) != workload.text:
            raise AssertionError(f"run {run.pk} stored {deltas(run)!r}")
