"""The results: a table for people, `latest.json` for programs."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .expected import SHARE
from .figures import Row, Spread
from .workload import W1, W2

RESULTS = Path(__file__).resolve().parent / "results"
EXPLAINED = "Median (lowest–highest) of the rounds; × is the ratio of runs/s within a round."
RUNS = (W1.part, W2.part)
RUN_COLUMNS = {
    "runs/s": "runs_per_s",
    "sends/s": "sends_per_s",
    "jobs/s": "jobs_per_s",
    "p50 ms": "p50_ms",
    "p99 ms": "p99_ms",
    "CPU ms/run": "cpu_ms_per_run",
    "PostgreSQL CPU ms/run": "postgres_cpu_ms_per_run",
    "WAL kB/run": "wal_kb_per_run",
    "flushes/run": "wal_flushes_per_run",
    "tx/run": "transactions_per_run",
    "inserted/run": "rows_inserted_per_run",
    "updated/run": "rows_updated_per_run",
    "of 1/(1/engine + 1/RQ)": SHARE,
}


def write(rows: Sequence[Row], about: dict[str, Any], failures: Sequence[str]) -> Path:
    """Write `latest.json`: what it was measured on, and one object a row."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "latest.json"
    found = {"about": about, "rows": [row.to_json() for row in rows], "failures": list(failures)}
    path.write_text(json.dumps(found, indent=1) + "\n")
    return path


def write_table(rows: Sequence[Row], about: dict[str, Any]) -> None:
    """Write `latest.md`: the table as the terminal shows it."""
    (RESULTS / "latest.md").write_text(f"# Results\n\n{EXPLAINED}\n\n{note(about)}\n\n{table(rows)}\n")


def about(postgres: str, rounds: int) -> dict[str, Any]:
    """Return what the figures were measured on."""
    return {
        "at": time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime()),
        "rounds": rounds,
        "cores": os.cpu_count(),
        "load": [round(value, 2) for value in os.getloadavg()],
        "python": platform.python_version(),
        "postgresql": f"{postgres}, fsync=on, synchronous_commit=on",
        **{name: version(name) for name in ("Django", "psycopg", "rq", "redis")},
    }


def note(about: dict[str, Any]) -> str:
    """Return what the figures were measured on, in a line."""
    said = {key: value for key, value in about.items() if key in ("at", "rounds", "cores", "python", "postgresql")}
    return ", ".join(f"{key} {value}" for key, value in said.items())


def table(rows: Sequence[Row]) -> str:
    """Return all rows as Markdown: a workload as one table, another part as tables of rows that say the same."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        kind = "" if row.part in RUNS else next(iter(row.figures), "")
        groups.setdefault((row.part, kind), []).append(row)
    return "\n\n".join(_part(part, found) for (part, _), found in groups.items())


def _part(part: str, rows: Sequence[Row]) -> str:
    if part in RUNS:
        columns = {title: name for title, name in RUN_COLUMNS.items() if any(name in row.figures for row in rows)}
    else:
        columns = {name.replace("_", " "): name for row in rows for name in row.figures}
    labels = list(dict.fromkeys(label for row in rows for label in row.ratios))
    head = [part, "store", "mode", "in flight", "rounds", *columns, *(f"× {label}" for label in labels)]
    lines = [_line(row, columns.values(), labels) for row in rows]
    widths = [max(len(line[place]) for line in [head, *lines]) for place in range(len(head))]
    ruler = ["-" * width for width in widths]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in [head, ruler, *lines]
    )


def _line(row: Row, columns: Any, labels: Sequence[str]) -> list[str]:
    place = [row.name, row.store, row.mode, str(row.in_flight or ""), str(row.rounds)]
    cells = [_cell(row.figures.get(name)) for name in columns]
    return [*place, *cells, *(_cell(row.ratios.get(label)) for label in labels)]


def _cell(spread: Spread | None) -> str:
    if spread is None:
        return ""
    if spread.low == spread.high:
        return _number(spread.median)
    return f"{_number(spread.median)} ({_number(spread.low)}–{_number(spread.high)})"


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
