"""What a run through RQ should take: the engine's time and RQ's, one after the other; what is above it is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .figures import Sample

SHARE = "share_of_engine_and_rq"
ENGINE = "agentcore: engine"
WORKERS = ("agentcore_worker", "rqworker")


def shares(samples: Sequence[Sample]) -> list[Sample]:
    """Return a round's samples; those of a worker's queue say which part of 1/(1/engine + 1/RQ) they reached."""
    return [_with_share(sample, samples) for sample in samples]


def _with_share(sample: Sample, samples: Sequence[Sample]) -> Sample:
    worker = sample.name.removeprefix("agentcore: ")
    if worker not in WORKERS or sample.mode != "queue emptied":
        return sample
    # RQ's own share has nothing to do with the database and is measured once a round.
    rq = [other for other in samples if other.name == f"RQ alone: {worker}"]
    place = (sample.part, ENGINE, sample.store)
    engine = [other for other in samples if (other.part, other.name, other.store) == place]
    alike = [other for other in engine if other.in_flight == sample.in_flight]
    if not rq or not alike:
        return sample
    expected = 1 / (1 / alike[0].figures["runs_per_s"] + 1 / rq[0].figures["jobs_per_s"])
    return replace(sample, figures={**sample.figures, SHARE: sample.figures["runs_per_s"] / expected})
