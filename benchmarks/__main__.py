"""Measure: `python -m benchmarks [--rounds 5] [--only B1,B4] [--peers] [--quick]`; `make bench` calls this."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from typing import NoReturn

from . import cases, expected, figures, plot, report, rounds
from .servers import Servers


def main() -> int:
    """Measure, print the table, write the files; returns how many cases failed."""
    options = _options()
    # So that what was started is stopped; only an interrupt does it by itself.
    signal.signal(signal.SIGTERM, _leave)
    found = cases.chosen(options.only, options.peers, options.quick)
    if not found:
        print(f"Nothing to measure is called {options.only!r}.", file=sys.stderr)
        return 2
    began = time.monotonic()
    print(f"Starting a private PostgreSQL and Redis; then {len(found)} cases, {options.rounds} rounds.", flush=True)
    with Servers() as servers:
        about = report.about(servers.postgres_version, options.rounds)
        outcome = rounds.go(servers, found, options.rounds)
    rows = figures.rows([expected.shares(samples) for samples in outcome.rounds], cases.REFERENCES)
    print(f"\n{report.EXPLAINED}\n\n{report.table(rows)}\n")
    for failure in outcome.failures:
        print(f"FAILED {failure}", file=sys.stderr)
    if not options.quick:
        written = report.write(rows, about, outcome.failures)
        report.write_table(rows, about)
        plot.draw(rows, written.with_suffix(".png"), report.note(about))
        print(f"Written: {written}, and latest.md and latest.png beside it")
    print(f"bench: {len(rows)} rows in {time.monotonic() - began:.0f} s, {len(outcome.failures)} failures")
    return min(len(outcome.failures), 1)


def _leave(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=0, help="how often each case is run (5; 2 with --quick)")
    parser.add_argument("--only", default="", help="parts (B1), stores or pieces of names, separated by commas")
    parser.add_argument("--peers", action="store_true", help="also DBOS and LangGraph, from .venv-peers")
    parser.add_argument("--quick", action="store_true", help="floors and engine on PostgreSQL; nothing is written")
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.quick else 5)
    return options


if __name__ == "__main__":
    sys.exit(main())
