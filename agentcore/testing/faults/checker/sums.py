"""I18: what a run has used is the sum of what its steps have."""

from __future__ import annotations

from collections.abc import Iterator

from ....states import StepStatus
from ....values.usage import Usage
from .evidence import Dossier, Violation


def of_run(dossier: Dossier) -> Iterator[Violation]:
    """Add up the usage in the log, and compare it with the run's and with each finished step's."""
    total, last = Usage(), dict[int, Usage]()
    for event in dossier.events:
        if event.get("type") == "usage":
            used = Usage.from_json(event.get("usage"))
            total += used
            last[int(event.get("step") or 0)] = used
    if total != Usage.from_json(dossier.run.usage):
        yield dossier.violates("I18", f"the log adds up to {_short(total)}, the run has {_short(dossier.run.used)}")
    for step in dossier.steps:
        logged, stored = last.get(step.number, Usage()), Usage.from_json(step.usage)
        if step.status == StepStatus.FINISHED and logged != stored:
            seen = f"step {step.number} has {_short(stored)}, the log has {_short(logged)} of it"
            yield dossier.violates("I18", seen)


def _short(usage: Usage) -> str:
    return f"{usage.input_tokens} + {usage.output_tokens} = {usage.total_tokens} tokens"
