"""One subject in one process: prepare, drive N runs with so many in flight, check, say what it cost.

The peers' environment has only psycopg beside the peers, so nothing here needs Django.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import resource
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

from . import counters, profiling, workload
from .figures import Sample, percentile
from .workload import WORKLOADS, Workload

Run = Callable[[int], Awaitable[str]]


class Subject(Protocol):
    """Something that can do a workload; its numbers never repeat within a process."""

    workload: Workload

    async def prepare(self, numbers: range) -> None:
        """Do what comes before the clock starts, and leave no connection behind."""

    async def open(self, in_flight: int) -> None:
        """Connect."""

    async def run(self, number: int) -> str:
        """Do one whole run, and return the text it ended with."""

    async def close(self) -> None:
        """Disconnect."""

    async def check(self, numbers: range) -> None:
        """Raise where one of these runs did not store what it should."""


class Bare:
    """What most subjects have nothing to say about."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload

    async def prepare(self, numbers: range) -> None:
        """Nothing comes before the clock."""

    async def check(self, numbers: range) -> None:
        """Nothing is known of what is stored."""


@dataclass(frozen=True)
class Phase:
    """How many runs at most, how many at a time, how many before the clock starts, and for how long."""

    in_flight: int
    runs: int
    warm: int
    seconds: float


async def drive(
    run: Run, numbers: Iterable[int], in_flight: int, *, text: str, seconds: float = 60
) -> dict[str, float]:
    """Do the runs with `in_flight` of them under way, and return rate, latencies and this process's CPU per run.

    Each must end with `text`. No run is begun after so many seconds: a slow subject does fewer.
    """
    latencies: list[float] = []
    left = iter(numbers)
    until = time.perf_counter() + seconds

    async def one_after_the_other() -> None:
        for number in left:
            if time.perf_counter() > until:
                return
            began = time.perf_counter()
            said = await run(number)
            latencies.append((time.perf_counter() - began) * 1000)
            if said != text:
                raise AssertionError(f"run {number} ended with {said!r}")

    cpu, began = cpu_seconds(), time.perf_counter()
    await asyncio.gather(*(one_after_the_other() for _ in range(in_flight)))
    wall, cpu = time.perf_counter() - began, cpu_seconds() - cpu
    return {
        "runs": len(latencies),
        "runs_per_s": len(latencies) / wall,
        "p50_ms": percentile(latencies, 50),
        "p99_ms": percentile(latencies, 99),
        "cpu_ms_per_run": cpu / len(latencies) * 1000,
    }


def check_texts(texts: Sequence[str], runs: int, wanted: str) -> None:
    """Raise unless there are as many texts as runs, each of them the one that is wanted."""
    wrong = [text for text in texts if text != wanted]
    if wrong or len(texts) != runs:
        raise AssertionError(f"{runs} runs stored {len(texts)} texts, {len(wrong)} of them wrong: {wrong[:1]}")


def cpu_seconds() -> float:
    """Return the CPU time this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measure(subject: Subject, phase: Phase, first: int) -> dict[str, float]:
    """Do one phase, and return its figures; on PostgreSQL also what a run wrote."""
    text, calls = subject.workload.text, subject.workload.calls_a_run
    warm, timed = range(first, first + phase.warm), range(first + phase.warm, first + phase.warm + phase.runs)
    await subject.prepare(range(first, timed.stop))
    with counters.meter(database_url()) as meter:
        before = await asyncio.to_thread(meter.settled)
        await subject.open(phase.in_flight)
        try:
            await drive(subject.run, warm, phase.in_flight, text=text)
            called = workload.tool_calls
            spent = await asyncio.to_thread(meter.at_once)
            with profiling.profiled(f"{type(subject).__name__}-{subject.workload.name}-{phase.in_flight}"):
                figures = await drive(subject.run, timed, phase.in_flight, text=text, seconds=phase.seconds)
            done = int(figures.pop("runs"))
            figures |= counters.per_run(spent, await asyncio.to_thread(meter.at_once), done)
            called = workload.tool_calls - called
            if called != done * calls:
                raise AssertionError(f"{done} runs called the tool {called} times, not {calls} times each")
        finally:
            await subject.close()
        figures |= counters.per_run(before, await asyncio.to_thread(meter.settled), phase.warm + done)
    await subject.check(range(first, timed.start + done))
    return figures


def main(name: str, make: Callable[[Workload], Subject]) -> None:
    """Measure as the command line says, and print the samples as one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", default="postgres")
    parser.add_argument("--workload", choices=WORKLOADS, default="w1")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--runs", type=int, nargs="+", default=[100, 320])
    parser.add_argument("--seconds", type=float, default=8)
    options = parser.parse_args()
    subject = make(WORKLOADS[options.workload])
    asyncio.run(_first_contact(subject))
    # As agentcore's worker does, and for all alike: the collector need not walk over what was loaded.
    gc.collect()
    gc.freeze()
    samples = []
    for position, (in_flight, runs) in enumerate(zip(options.in_flight, options.runs, strict=True)):
        phase = Phase(in_flight, runs, max(10, 2 * in_flight), options.seconds)
        figures = asyncio.run(measure(subject, phase, first=1_000_000 * position))
        samples.append(Sample(subject.workload.part, name, options.store, "in process", in_flight, figures))
    say(samples)


async def _first_contact(subject: Subject) -> None:
    """Connect once, so that no phase pays for tables and migrations."""
    await subject.open(1)
    await subject.close()


def say(samples: Iterable[Sample]) -> None:
    """Hand the samples to the process that started this one."""
    print(json.dumps([asdict(sample) for sample in samples]), flush=True)


def database_url() -> str:
    """Return the address of the database this process was given."""
    return os.environ["DATABASE_URL"]
