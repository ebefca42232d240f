"""B1 through RQ: the whole way from `send` to the end of the run, and how fast one worker empties a queue of runs.

Three measurements with the same worker: one run at a time from before its send
until its row says that it has ended; a queue of runs that were sent before the
worker started; and as many jobs that do nothing, so that RQ's share is known.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from uuid import UUID

from django.db import connections
from django.db.models import Max, Min

from agentcore.models import Run
from agentcore.services import dispatch
from agentcore.values.ids import uuid7
from benchmarks.figures import Sample, percentile
from benchmarks.probes import stored
from benchmarks.probes.noop import TIMES
from benchmarks.probes.processes import RQ_WORKER, agentcore_worker, finish, manage, running
from benchmarks.subject import say

CONCURRENCY = 32
COMMANDS = {"rqworker": RQ_WORKER, "agentcore_worker": agentcore_worker(CONCURRENCY)}
END_SECONDS = 120.0


def main() -> None:
    """Measure one worker."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", default="postgres")
    parser.add_argument("--worker", choices=COMMANDS, required=True)
    parser.add_argument("--sends", type=int, default=40)
    parser.add_argument("--queued", type=int, default=320)
    parser.add_argument("--jobs", type=int, default=1000)
    options = parser.parse_args()
    command = COMMANDS[options.worker]
    at_a_time = 1 if options.worker == "rqworker" else CONCURRENCY

    def sample(name: str, mode: str, in_flight: int, figures: dict[str, float]) -> Sample:
        return Sample("B1", f"{name} {options.worker}", options.store, mode, in_flight, figures)

    found = [
        sample("agentcore:", "queue emptied", at_a_time, emptied(command, options.queued)),
        sample("agentcore:", "send to end", 1, one_at_a_time(command, options.sends)),
    ]
    if options.jobs:
        found.append(sample("RQ alone:", "queue emptied", at_a_time, emptied_of_nothing(command, options.jobs)))
    say(found)


def one_at_a_time(command: tuple[str, ...], count: int) -> dict[str, float]:
    """Send a run, wait for its end, send the next."""
    times, runs = [], []
    with running(manage(*command)):
        for number in range(-3, count):
            thread = stored.new_thread()
            began = time.perf_counter()
            run = stored.send(thread)
            _wait_for_end(run.pk)
            if number >= 0:
                times.append((time.perf_counter() - began) * 1000)
                runs.append(run.pk)
    stored.check(runs)
    return {
        "runs_per_s": 1000 * len(times) / sum(times),
        "p50_ms": percentile(times, 50),
        "p99_ms": percentile(times, 99),
    }


def emptied(command: tuple[str, ...], count: int) -> dict[str, float]:
    """Queue runs that were sent before, have one worker empty the queue, and read in the rows how long it took."""
    runs = stored.pending()[:count]
    assert len(runs) == count, f"only {len(runs)} runs wait"
    for run_id in runs:
        dispatch.enqueue(run_id)
    connections.close_all()
    with running(manage(*command, "--burst")) as worker:
        finish(worker, END_SECONDS)
    stored.check(runs)
    took = Run.objects.filter(pk__in=runs).aggregate(first=Min("started_at"), last=Max("finished_at"))
    return {"runs_per_s": count / (took["last"] - took["first"]).total_seconds()}


def emptied_of_nothing(command: tuple[str, ...], count: int) -> dict[str, float]:
    """Queue jobs that the same worker has nothing to do for."""
    for _ in range(count):
        dispatch.enqueue(uuid7())
    connections.close_all()
    with tempfile.TemporaryDirectory() as directory:
        times = Path(directory) / "times"
        noop = [sys.executable, "-m", "benchmarks.probes.noop", *command, "--burst"]
        with running(noop, {TIMES: str(times)}) as worker:
            finish(worker, END_SECONDS)
        when = [float(line) for line in times.read_text().splitlines()]
    assert len(when) == count, f"{len(when)} jobs of {count} were taken"
    return {"jobs_per_s": (count - 1) / (max(when) - min(when))}


def _wait_for_end(run_id: UUID) -> None:
    until = time.monotonic() + END_SECONDS
    while not Run.objects.filter(pk=run_id, finished_at__isnull=False).exists():
        if time.monotonic() > until:
            raise TimeoutError(f"run {run_id} did not end")
        time.sleep(0.001)


if __name__ == "__main__":
    main()
