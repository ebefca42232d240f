"""I16: whoever is asked to go on knows what was said before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from uuid import UUID

from ....models import Message, Run
from ....states import TERMINAL_RUN_STATUSES, RunStatus
from .evidence import Asked, Dossier, Evidence, Violation


def of_run(dossier: Dossier, evidence: Evidence) -> Iterator[Violation]:
    """Find the requests of a run that lack an answer which its thread held when the run was claimed.

    What came first is told by the thread's own log: it has the end of each run and each
    claim in the order in which they were committed. A run that goes side by side with
    others owes nothing: which of them it has seen is a matter of milliseconds.
    """
    if not dossier.run.queued:
        return
    for request in evidence.requests:
        if request.run == dossier.run.pk:
            for answer in _missing(dossier, request):
                seen = f"the model was asked in step {request.step} without what run {answer.run_id} had answered"
                yield dossier.violates("I16", f"{seen}: {answer.text[:60]!r}")


def _missing(dossier: Dossier, request: Asked) -> Iterator[Message]:
    answers = _answers(dossier.run, _ended_before(dossier, request.attempt))
    due = answers if request.whole else answers[-1:]
    for answer in due:
        if answer.text not in request.said:
            yield answer


def _ended_before(dossier: Dossier, attempt: int) -> list[UUID]:
    """The runs that had ended when this one was claimed for the attempt."""
    ended: list[UUID] = []
    claims = 0
    for event in dossier.thread_events:
        if event.get("type") != "thread.run":
            continue
        status, run = event.get("status"), UUID(str(event.get("run")))
        if run == dossier.run.pk and status == RunStatus.RUNNING:
            claims += 1
            if claims == attempt:
                return ended
        elif status in TERMINAL_RUN_STATUSES:
            ended.append(run)
    return []


def _answers(run: Run, ended: Sequence[UUID]) -> list[Message]:
    """What those runs have said in turns before this one's, oldest first."""
    said = Message.objects.in_order().complete().filter(thread=run.thread_id, author_kind="agent")
    before = said.filter(run__in=ended, run__queued=True, order__lt=run.order)
    return [message for message in before if message.text]
