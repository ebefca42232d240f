"""B6: what one `agentcore_worker` process needs while it drives many runs that stream."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import psutil

from agentcore.models import Run
from benchmarks.figures import Sample
from benchmarks.probes import streams_of_words as talk
from benchmarks.probes.processes import agentcore_worker, manage, running, wait_for
from benchmarks.subject import say

MEGABYTE = 1024 * 1024


def main() -> None:
    """Start the worker, have it drive the runs, and watch it for a while."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", default="postgres")
    parser.add_argument("--streaming", type=int, default=500)
    parser.add_argument("--words-per-second", type=float, default=20)
    parser.add_argument("--seconds", type=float, default=12)
    options = parser.parse_args()
    with running(manage(*agentcore_worker(options.streaming))) as process:
        worker = psutil.Process(process.pid)
        # It has started once it uses no more memory than a moment ago.
        seen: list[int] = []

        def settled() -> bool:
            seen.append(worker.memory_info().rss)
            return len(seen) > 3 and seen[-1] - seen[-3] < MEGABYTE and seen[-1] > 30 * MEGABYTE

        wait_for(settled, 30, "the worker to start", every=1)
        runs = talk.send_talkers(options.streaming, options.words_per_second)
        talk.wait_until_all_talk(runs)
        figures = _watch(worker, runs, options.seconds)
    mode = f"{options.streaming} runs × {options.words_per_second:g} words/s"
    figures = {"idle_rss_mb": seen[-1] / MEGABYTE, **figures}
    say([Sample("B6", "one agentcore_worker", options.store, mode, options.streaming, figures)])


def _watch(worker: psutil.Process, runs: Sequence[Run], seconds: float) -> dict[str, float]:
    said, used = talk.progress(runs), _cpu(worker)
    began = time.monotonic()
    most = 0
    while time.monotonic() - began < seconds:
        most = max(most, worker.memory_info().rss)
        time.sleep(0.25)
    took = time.monotonic() - began
    cpu = _cpu(worker) - used
    then = talk.progress(runs)
    return {
        "rss_mb": most / MEGABYTE,
        "cpu_percent": 100 * cpu / took,
        "words_per_s_per_run": talk.words_per_second(said, then, runs),
    }


def _cpu(worker: psutil.Process) -> float:
    used = worker.cpu_times()
    return float(used.user + used.system)


if __name__ == "__main__":
    main()
