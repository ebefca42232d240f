"""I13 and I14: no secret where somebody may read it, and no transaction left open by the dead."""

from __future__ import annotations

from collections.abc import Iterator

from .backends import forgotten_transactions
from .evidence import Dossier, Evidence, Violation

IDLE_SECONDS = 5.0


def of_run(dossier: Dossier, evidence: Evidence) -> Iterator[Violation]:
    """Look for the canaries in what a run shows: its log, its messages, its errors, its calls."""
    if not evidence.canaries:
        return
    run = dossier.run
    places = {
        "the run's error": f"{run.error_code} {run.error_message} {run.error_detail} {run.cancel_reason}",
        **{f"event {record.seq}": record.data.decode(errors="replace") for record in dossier.records},
        **{f"message {message.pk}": f"{message.content}" for message in dossier.messages},
        **{
            f"step {step.number}": f"{step.error_message} {step.error_detail} {step.rejected} {step.context}"
            for step in dossier.steps
        },
        **{f"call {call.call_id}": f"{call.arguments} {call.result} {call.error}" for call in dossier.calls},
    }
    for place, text in places.items():
        for canary in evidence.canaries:
            if canary in text:
                yield dossier.violates("I13", f"{place} holds the canary {canary[:4]}…")


def of_processes(evidence: Evidence) -> Iterator[Violation]:
    """Look for the canaries in logs, and for open transactions that nobody works on."""
    for name, text in evidence.texts.items():
        for canary in evidence.canaries:
            if canary in text:
                yield Violation("I13", "", f"{name} holds the canary {canary[:4]}…")
    for backend in forgotten_transactions(IDLE_SECONDS):
        yield Violation("I14", "", str(backend))
