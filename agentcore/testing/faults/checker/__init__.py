"""Checks what must hold of every run, whatever was killed: the invariants I1 to I19."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from . import calls, conversation, copies, fates, leaks, logs, remains, sums
from .evidence import Answer, Asked, Effect, Evidence, History, Violation, load
from .processes import worker_is_alive

__all__ = ["Answer", "Asked", "Effect", "Evidence", "History", "Violation", "check_invariants", "worker_is_alive"]


def check_invariants(runs: Iterable[UUID] | None = None, evidence: Evidence | None = None) -> list[Violation]:
    """Return every violation found in the runs given, or in all there are; reads only.

    The database alone tells much; `evidence` brings what it cannot know: the effects
    that really happened, what clients saw, which processes live. Ask when everything
    is calm, so that the rows do not change under the reader.
    """
    known = evidence or Evidence()
    dossiers = load(runs)
    found = [*fates.of_all(dossiers, known, every=runs is None), *leaks.of_processes(known)]
    if runs is None:
        found += remains.of_all(known)
    for dossier in dossiers:
        found += [
            *fates.of_run(dossier, known),
            *logs.of_run(dossier),
            *calls.of_run(dossier, known),
            *conversation.of_run(dossier, known),
            *copies.of_run(dossier),
            *sums.of_run(dossier),
            *leaks.of_run(dossier, known),
        ]
    return found
