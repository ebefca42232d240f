"""A load of many runs that stream words at a steady pace, for what is measured beside it or of it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import connections

from agentcore import SYSTEM
from agentcore.models import Run
from agentcore.streams.models import Record
from benchmarks.app.agents import talker_agent
from benchmarks.probes.processes import wait_for

# Enough that no run ends before the measurement does; the worker is ended, not waited for.
LONG = 1_000_000
SAMPLED = 20
START_SECONDS = 120.0


@dataclass(frozen=True)
class Progress:
    """How many words some runs had stored at a moment."""

    at: float
    words: int


def send_talkers(count: int, words_per_second: float) -> list[Run]:
    """Send runs that talk for longer than anything is measured."""
    prompt = f"{LONG} {1 / words_per_second}"
    runs = []
    for _ in range(count):
        thread = talker_agent.threads.create(user=SYSTEM)
        runs.append(talker_agent.runs.send(thread, prompt, user=SYSTEM))
    return runs


def wait_until_all_talk(runs: Sequence[Run]) -> None:
    """Wait until every run has said something."""
    keys = [run.pk for run in runs]

    def talking() -> bool:
        return Run.objects.filter(pk__in=keys, status="running", next_seq__gte=5).count() == len(keys)

    wait_for(talking, START_SECONDS, f"{len(keys)} runs to talk", every=0.2)


def progress(runs: Sequence[Run]) -> Progress:
    """Count the words that a sample of the runs has stored."""
    streams = [run.stream_id for run in runs[:: max(1, len(runs) // SAMPLED)]][:SAMPLED]
    at = time.monotonic()
    data = Record.objects.filter(stream__in=streams).values_list("data", flat=True)
    events = [json.loads(bytes(one)) for one in data]
    return Progress(at, sum(event["text"].count(" ") for event in events if event["type"] == "text.delta"))


def words_per_second(before: Progress, after: Progress, runs: Sequence[Run]) -> float:
    """Return how many words a second one run stored between the two."""
    sampled = min(SAMPLED, len(runs))
    return (after.words - before.words) / (after.at - before.at) / sampled


def forget_connections() -> None:
    """Leave no connection of this process behind."""
    connections.close_all()
