"""B1: what `send` takes: a message and a run in one transaction, and the hint to a worker after its commit."""

from __future__ import annotations

import argparse
import time

from benchmarks.figures import Sample, percentile
from benchmarks.probes import stored
from benchmarks.subject import cpu_seconds, say


def main() -> None:
    """Send one after the other, each in a thread of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", default="postgres")
    parser.add_argument("--sends", type=int, default=150)
    options = parser.parse_args()
    for _ in range(10):
        stored.send(stored.new_thread())
    times, cpu = [], 0.0
    for _ in range(options.sends):
        thread = stored.new_thread()
        used, began = cpu_seconds(), time.perf_counter()
        stored.send(thread)
        times.append((time.perf_counter() - began) * 1000)
        cpu += cpu_seconds() - used
    figures = {
        "sends_per_s": 1000 * len(times) / sum(times),
        "p50_ms": percentile(times, 50),
        "p99_ms": percentile(times, 99),
        "cpu_ms_per_run": cpu / len(times) * 1000,
    }
    say([Sample("B1", "agentcore: send", options.store, "in process", 1, figures)])


if __name__ == "__main__":
    main()
