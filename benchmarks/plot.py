"""The results as a picture: runs per second, the latencies a person sees, and how soon another worker goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .figures import Row
from .workload import W1, W2, Workload

COLORS = {"floor": "#9aa0a6", "agentcore": "#1a73e8", "RQ alone": "#c5cae9", "DBOS": "#e8710a", "LangGraph": "#d93025"}


def draw(rows: Sequence[Row], path: Path, note: str) -> None:
    """Draw what is there to draw; needs matplotlib, and no screen."""
    import matplotlib  # noqa: PLC0415 - only who draws needs it

    matplotlib.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    panels = [
        *(
            (f"{one.name.upper()}, {said}: runs/s", _at(rows, one, in_flight), "runs_per_s")
            for one in (W1, W2)
            for in_flight, said in ((1, "one at a time"), (32, "32 in flight"))
        ),
        ("What a person waits for: p50, ms", [row for row in rows if row.part == "B4"], "p50_ms"),
        ("A worker leaves, another goes on: worst, s", [row for row in rows if row.part == "B7"], "worst_s"),
    ]
    shown = [(title, [row for row in found if name in row.figures], name) for title, found, name in panels]
    shown = [panel for panel in shown if panel[1]]
    if not shown:
        return
    heights = [len(found) + 1.5 for _, found, _ in shown]
    figure, axes = pyplot.subplots(
        len(shown), 1, figsize=(10, 0.32 * sum(heights) + 1), height_ratios=heights, squeeze=False
    )
    for axis, (title, found, name) in zip(axes[:, 0], shown, strict=True):
        _bars(axis, title, found, name)
    figure.text(0.01, 0.005, note, fontsize=7, color="#5f6368")
    figure.tight_layout(rect=(0, 0.02, 1, 1))
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _at(rows: Sequence[Row], workload: Workload, in_flight: int) -> list[Row]:
    return [row for row in rows if (row.part, row.in_flight) == (workload.part, in_flight)]


def _bars(axis: Any, title: str, rows: Sequence[Row], name: str) -> None:
    spreads = [row.figures[name] for row in rows]
    medians = [spread.median for spread in spreads]
    reach = [[spread.median - spread.low for spread in spreads], [spread.high - spread.median for spread in spreads]]
    places = range(len(rows))
    axis.barh(places, medians, xerr=reach, color=[_color(row) for row in rows], ecolor="#3c4043", capsize=2)
    axis.set_yticks(places, [_label(row) for row in rows], fontsize=8)
    axis.invert_yaxis()
    axis.set_title(title, fontsize=9, loc="left")
    for place, spread in zip(places, spreads, strict=True):
        axis.annotate(f" {spread.median:.4g}", (spread.high, place), va="center", fontsize=7)
    axis.margins(x=0.12)
    axis.spines[["top", "right"]].set_visible(False)


def _label(row: Row) -> str:
    return f"{row.name}, {row.store}" + ("" if row.mode == "in process" else f", {row.mode}")


def _color(row: Row) -> str:
    return next((color for word, color in COLORS.items() if row.name.startswith(word)), "#1a73e8")
