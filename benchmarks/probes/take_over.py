"""B7, take-over: from the signal that ends a worker to the next event of each of its runs, by another worker.

A chain of workers: one drives the runs and sweeps, the next one starts and waits,
and at a random moment the first one is killed with its whole group, or told to stop.
Both moments are the database's: it is asked for the time just before the signal, and
it stamps the event, a moment before its commit.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

import psutil
import redis

from agentcore import SYSTEM
from agentcore.conf import get_settings
from agentcore.database.dialect import DbNow
from agentcore.models import Run, SweepLease
from benchmarks import succession
from benchmarks.app.agents import stepper_agent
from benchmarks.app.fakes import STEP_SECONDS
from benchmarks.figures import Sample, percentile
from benchmarks.probes import stored
from benchmarks.probes.processes import agentcore_worker, manage, running, wait_for
from benchmarks.subject import say
from benchmarks.succession import Succession

START_SECONDS = 60.0
# Beyond the lease: what takes longer is no slow take-over, but none.
PATIENCE = 30.0
Worker = subprocess.Popen[bytes]


@dataclass(frozen=True)
class Way:
    """How a worker is made to leave, and how its process ends then."""

    mode: str
    signal: signal.Signals
    status: int

    @property
    def is_clean(self) -> bool:
        """Whether the worker gives its runs back itself."""
        return self.signal is signal.SIGTERM


WAYS = {"kill": Way("kill -9", signal.SIGKILL, -signal.SIGKILL), "stop": Way("SIGTERM", signal.SIGTERM, 0)}


@dataclass(frozen=True)
class Before:
    """How a run stood at a moment of the database's clock, just before the signal."""

    run_id: UUID
    attempt: int
    worker: str
    lease_until: datetime
    at: datetime


@dataclass(frozen=True)
class Options:
    """What is measured; the lease is this process's and its workers', which have the same settings."""

    store: str
    way: Way
    lease: float
    times: int
    runs: int


def main() -> None:
    """Have so many workers leave, one after the other, and see who goes on with their runs, and when."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", default="postgres")
    parser.add_argument("--way", choices=WAYS, default="kill")
    parser.add_argument("--times", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    options = Options(given.store, WAYS[given.way], get_settings().lease_seconds, given.times, given.runs)
    found = _measure(options)
    took = [(one.next_event - before.at).total_seconds() for before, one in found]
    figures = {"lease_s": options.lease, "p50_s": percentile(took, 50), "worst_s": max(took)}
    if options.way.is_clean:
        # How long the step went on is the model's affair; what comes after it is the worker's.
        figures["worst_after_release_s"] = max(
            (one.next_event - one.released).total_seconds() for _, one in found if one.released
        )
    else:
        figures["worst_minus_lease_s"] = max(took) - options.lease
    name = f"take-over, lease {options.lease:g} s"
    say([Sample("B7", name, options.store, options.way.mode, options.runs, figures)])


def _measure(options: Options) -> list[tuple[Before, Succession]]:
    found: list[tuple[Before, Succession]] = []
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        worker = _start(stack)
        for number in range(options.times):
            let_go = Path(directory) / str(number)
            keys = _send(options.runs, let_go)
            _wait_until_it_drives_and_sweeps(worker, keys)
            other = _start(stack)
            # Nothing that a worker does at its own pace, such as its sweeps, is in step with the signal.
            time.sleep(random.uniform(0, get_settings().sweep_seconds))
            before = _leave(worker, keys, options.way)
            _wait_until_driven_by(other, before, options.lease)
            let_go.touch()
            found += [(one, _succession(one, options.way)) for one in before]
            worker = other
    return found


def _start(stack: ExitStack) -> Worker:
    """Start a worker, in a group of its own, and return it once it listens."""
    name = f"b7-{os.getpid()}-{time.monotonic_ns()}"
    command = manage(*agentcore_worker(25), "--name", name)
    worker = stack.enter_context(running(command, own_group=True))
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        wait_for(lambda: bool(client.exists(f"rq:worker:{name}")), START_SECONDS, "a worker to listen")
    return worker


def _send(count: int, let_go: Path) -> list[UUID]:
    """Send runs that go on until the file exists, each in a thread of its own, and none in step with another."""
    sent = []
    for _ in range(count):
        thread = stepper_agent.threads.create(user=SYSTEM)
        sent.append(stepper_agent.runs.send(thread, str(let_go), user=SYSTEM).pk)
        time.sleep(STEP_SECONDS / count)
    return sent


def _wait_until_it_drives_and_sweeps(worker: Worker, keys: Sequence[UUID]) -> None:
    def drives_and_sweeps() -> bool:
        driven = Run.objects.filter(pk__in=keys, status="running", next_seq__gte=5).count()
        return driven == len(keys) and SweepLease.objects.held_by() == _name(worker)

    wait_for(drives_and_sweeps, START_SECONDS, f"a worker to sweep, and to drive {len(keys)} runs")


def _leave(worker: Worker, keys: Sequence[UUID], way: Way) -> list[Before]:
    """Note how the runs stand, have their worker leave, and see that it did."""
    running_now = Run.objects.filter(pk__in=keys, status="running")
    rows = running_now.values_list("pk", "attempt", "worker", "lease_expires_at", DbNow())
    before = [Before(*row) for row in rows]
    if way.is_clean:
        worker.send_signal(way.signal)  # to it alone, as the documentation has a supervisor do it
    else:
        os.killpg(worker.pid, way.signal)
    status = worker.wait(get_settings().drain_seconds + PATIENCE)
    if status != way.status:
        raise AssertionError(f"the worker ended with {status}, not with {way.status}")
    if [one.worker for one in before] != [_name(worker)] * len(keys):
        raise AssertionError(f"not all of {len(keys)} runs were driven by {_name(worker)}: {before}")
    return before


def _wait_until_driven_by(worker: Worker, before: Sequence[Before], lease: float) -> None:
    """Wait until every run is at its next attempt, and see that it is this worker's, or a process's below it."""
    attempts = {one.run_id: one.attempt for one in before}

    def rows() -> list[tuple[UUID, int, str]]:
        return list(Run.objects.filter(pk__in=list(attempts)).values_list("pk", "attempt", "worker"))

    def taken_over() -> bool:
        return all(attempt > attempts[pk] for pk, attempt, _ in rows())

    wait_for(taken_over, lease + PATIENCE, "the runs to be taken over", every=0.1)
    for pk, attempt, name in rows():
        # What may have cost a worker is driven in a process of its own, forked from a server below the worker.
        pid = int(name.rpartition(":")[2])
        line = [pid, *(one.pid for one in psutil.Process(pid).parents())]
        if attempt != attempts[pk] + 1 or worker.pid not in line:
            raise AssertionError(f"run {pk} is at attempt {attempt} by {name}, which is not below {_name(worker)}")


def _succession(before: Before, way: Way) -> Succession:
    """Wait for a run's end, and return what its log says of its change of hands."""
    run = Run.objects.get(pk=before.run_id)
    wait_for(lambda: Run.objects.filter(pk=run.pk, finished_at__isnull=False).exists(), PATIENCE, "the end of a run")
    found = succession.read(stored.log(run), before.attempt, released=way.is_clean)
    if found.next_event < before.at or not (way.is_clean or found.next_event >= before.lease_until):
        raise AssertionError(f"run {run.pk} went on before it could: {found}, {before}")
    return found


def _name(worker: Worker) -> str:
    """Return what a worker calls itself in the rows of the runs that it drives."""
    return f"{socket.gethostname()}:{worker.pid}"


if __name__ == "__main__":
    main()
