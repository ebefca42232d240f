"""From samples to rows: percentiles of one round, medians and spreads of several, ratios within a round."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

Key = tuple[str, str, str, str, int]


@dataclass(frozen=True)
class Sample:
    """What one subject did in one round."""

    part: str
    name: str
    store: str
    mode: str
    in_flight: int
    figures: Mapping[str, float]

    @property
    def key(self) -> Key:
        """What makes samples of several rounds the same row."""
        return (self.part, self.name, self.store, self.mode, self.in_flight)


@dataclass(frozen=True)
class Spread:
    """The median of several rounds, and how far they lie apart."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """One line of the table: the medians of a subject, and its ratios to others in the same rounds."""

    part: str
    name: str
    store: str
    mode: str
    in_flight: int
    rounds: int
    figures: Mapping[str, Spread]
    ratios: Mapping[str, Spread] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the row as one flat object: medians under their names, the spread beside them."""
        about = {key: getattr(self, key) for key in ("part", "name", "store", "mode", "in_flight", "rounds")}
        medians = {name: round(spread.median, 4) for name, spread in self.figures.items()}
        spreads = {name: [round(spread.low, 4), round(spread.high, 4)] for name, spread in self.figures.items()}
        ratios = {
            name: {key: round(value, 4) for key, value in asdict(spread).items()}
            for name, spread in self.ratios.items()
        }
        return {**about, **medians, "spread": spreads, "ratios": ratios}


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that `percent` of all are not above (nearest rank)."""
    if not values:
        raise ValueError("there is no percentile of nothing")
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered) - 1, -int(-len(ordered) * percent // 100) - 1))]


def spread(values: Sequence[float]) -> Spread:
    """Return the median and the extremes."""
    return Spread(statistics.median(values), min(values), max(values))


def rows(rounds: Sequence[Iterable[Sample]], references: Mapping[str, Sequence[str]]) -> list[Row]:
    """Fold the samples of several rounds into rows, in the order in which they first came.

    `references` are what others are compared with: a label, and the names that it
    has on one store or another. A ratio is runs per second against those of the
    reference in the same round, on the same store, with as many in flight; the row
    has their median.
    """
    found: dict[Key, list[Mapping[str, float]]] = {}
    ratios: dict[Key, dict[str, list[float]]] = {}
    for samples in rounds:
        together = list(samples)
        for sample in together:
            found.setdefault(sample.key, []).append(sample.figures)
            for label, value in _ratios(sample, together, references).items():
                ratios.setdefault(sample.key, {}).setdefault(label, []).append(value)
    return [
        Row(
            *key,
            len(figures),
            _spreads(figures),
            {name: spread(values) for name, values in ratios.get(key, {}).items()},
        )
        for key, figures in found.items()
    ]


def _ratios(sample: Sample, together: Sequence[Sample], references: Mapping[str, Sequence[str]]) -> dict[str, float]:
    rate = sample.figures.get("runs_per_s")
    if rate is None:
        return {}
    found = {}
    place = (sample.part, sample.store, sample.in_flight)
    for label, names in references.items():
        for other in together:
            same = other.name in names and (other.part, other.store, other.in_flight) == place
            if same and other.figures.get("runs_per_s"):
                found[label] = rate / other.figures["runs_per_s"]
    return found


def _spreads(figures: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    names = dict.fromkeys(name for one in figures for name in one)
    return {name: spread([one[name] for one in figures if name in one]) for name in names}
