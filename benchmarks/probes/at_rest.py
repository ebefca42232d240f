"""B5: what much data at rest costs what moves: 10,000 waiting approvals, or ten million events of old runs.

The same work is measured before and after the database is filled: a sweep, W1
one at a time and 32 at a time, and reading one run's log.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable

from agentcore import SYSTEM
from agentcore.models import Run
from agentcore.services import events, sweep
from benchmarks.figures import Sample, percentile
from benchmarks.probes import fill
from benchmarks.probes.engine import Engine
from benchmarks.subject import drive, say
from benchmarks.workload import W1

SWEEPS = 20
READS = 100
WARM, ONE_BY_ONE, TOGETHER = 32, 40, 90
IN_FLIGHT = 32


def main() -> None:
    """Measure on the database as it comes, fill it, measure again."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", default="postgres")
    parser.add_argument("--approvals", type=int, default=0)
    parser.add_argument("--events", type=int, default=0)
    options = parser.parse_args()
    _work()  # what is done first pays for what is never loaded again
    samples = [Sample("B5", "work beside nothing", options.store, "in process", 0, _work())]
    if options.approvals:
        fill.approvals(options.approvals)
        samples.append(_sample(f"work beside {options.approvals:,} waiting approvals", options.store, {}))
    if options.events:
        began = time.monotonic()
        fill.events(options.events)
        filled = {"filled_in_s": time.monotonic() - began}
        samples.append(_sample(f"work beside {options.events:,} events", options.store, filled))
    say(samples)


def _sample(name: str, store: str, more: dict[str, float]) -> Sample:
    return Sample("B5", name, store, "in process", 0, {**_work(), **more})


def _work() -> dict[str, float]:
    one, many = asyncio.run(_drive())
    run = Run.objects.filter(status="succeeded").latest("finished_at")
    return {
        "sweep_p50_ms": percentile(_timed(sweep.sweep, SWEEPS), 50),
        "read_log_p50_ms": percentile(_timed(lambda: events.read(run, user=SYSTEM), READS), 50),
        "w1_p50_ms": one["p50_ms"],
        "w1_runs_per_s_32": many["runs_per_s"],
    }


async def _drive() -> tuple[dict[str, float], dict[str, float]]:
    engine = Engine(W1)
    everything = range(WARM + ONE_BY_ONE + TOGETHER)
    await engine.prepare(everything)
    await engine.open(IN_FLIGHT)
    await drive(engine.run, everything[:WARM], IN_FLIGHT, text=W1.text)
    one = await drive(engine.run, everything[WARM : WARM + ONE_BY_ONE], 1, text=W1.text)
    many = await drive(engine.run, everything[-TOGETHER:], IN_FLIGHT, text=W1.text)
    await engine.close()
    await engine.check(everything)
    return one, many


def _timed(work: Callable[[], object], times: int) -> list[float]:
    found = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        found.append((time.perf_counter() - began) * 1000)
    return found


if __name__ == "__main__":
    main()
