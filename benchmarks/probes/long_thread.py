"""B5: how the cost of a run grows with its thread: the first runs of a thread against its 150th."""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time

from asgiref.sync import sync_to_async
from django.db import connection

from agentcore.services import execution
from benchmarks.figures import Sample
from benchmarks.probes import stored
from benchmarks.probes.engine import Engine
from benchmarks.subject import cpu_seconds, say
from benchmarks.workload import W1

TOGETHER = 10


def main() -> None:
    """Do the runs one after the other, and compare the first ten (without the very first) with the last ten."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", default="postgres")
    parser.add_argument("--runs", type=int, default=150)
    options = parser.parse_args()
    times, cpu, written = asyncio.run(_drive(options.runs))
    first, last = slice(1, 1 + TOGETHER), slice(-TOGETHER, None)
    figures = {
        "first_runs_ms": statistics.median(times[first]),
        "last_runs_ms": statistics.median(times[last]),
        "last_to_first": statistics.median(times[last]) / statistics.median(times[first]),
        "first_runs_cpu_ms": statistics.median(cpu[first]),
        "last_runs_cpu_ms": statistics.median(cpu[last]),
    }
    if any(written):
        figures["first_runs_wal_kb"] = statistics.median(written[first])
        figures["last_runs_wal_kb"] = statistics.median(written[last])
    say([Sample("B5", f"run {options.runs} of a thread", options.store, "in process", 1, figures)])


async def _drive(count: int) -> tuple[list[float], list[float], list[float]]:
    times, used, written, runs = [], [], [], []
    engine = Engine(W1)
    await engine.open(1)
    thread = await sync_to_async(stored.new_thread)()
    for _ in range(count):
        run = await sync_to_async(stored.send)(thread)
        wal, cpu, began = await sync_to_async(_wal_kb)(), cpu_seconds(), time.perf_counter()
        await execution.adrive(run.pk, engine.runtime)
        times.append((time.perf_counter() - began) * 1000)
        used.append((cpu_seconds() - cpu) * 1000)
        written.append(await sync_to_async(_wal_kb)() - wal)
        runs.append(run.pk)
    await engine.close()
    await sync_to_async(stored.check)(runs)
    return times, used, written


def _wal_kb() -> float:
    """Return how much the server has written so far; nothing on SQLite."""
    if connection.vendor != "postgresql":
        return 0.0
    with connection.cursor() as cursor:
        cursor.execute("SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::float / 1024")
        return float(cursor.fetchone()[0])


if __name__ == "__main__":
    main()
