"""I1, I3, I10, I11 and I12: where runs have got to, who holds them, and what clients were told of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from ....conf import get_settings
from ....database.dialect import DbNow
from ....models import Run
from ....states import RunStatus
from .evidence import Dossier, Evidence, History, Violation

SLACK_SECONDS = 2.0


def of_all(dossiers: Sequence[Dossier], evidence: Evidence, *, every: bool) -> Iterator[Violation]:
    """Check what concerns more than one run: starts that were answered, and keys."""
    known = {dossier.run.pk for dossier in dossiers}
    for answer in evidence.answers:
        if answer.run is not None and answer.run not in known and every and answer.thread not in evidence.deleted:
            yield Violation("I1", str(answer.run), f"was accepted under key {answer.key!r} and is not there")
    by_key: dict[tuple[UUID, str, str], set[UUID]] = {}
    for run in (dossier.run for dossier in dossiers if dossier.run.key):
        by_key.setdefault((run.thread_id, run.agent, run.key), set()).add(run.pk)
    for answer in evidence.answers:
        if answer.key and answer.run is not None:
            by_key.setdefault((answer.thread, answer.agent, answer.key), set()).add(answer.run)
    for (thread, agent, key), runs in by_key.items():
        if len(runs) > 1:
            seen = f"key {key!r} of {agent} in thread {thread} has {len(runs)} runs: {sorted(map(str, runs))}"
            yield Violation("I10", str(min(runs)), seen)


def of_run(dossier: Dossier, evidence: Evidence) -> Iterator[Violation]:
    """Check where one run has got to, and what its clients saw of it."""
    if evidence.calm:
        yield from _rest(dossier)
    yield from _lease(dossier, evidence)
    for history in evidence.histories:
        if history.run == dossier.run.pk:
            yield from _history(dossier, history)


def _rest(dossier: Dossier) -> Iterator[Violation]:
    run = dossier.run
    if run.status in (RunStatus.PENDING, RunStatus.RUNNING):
        yield dossier.violates("I1", f"is {run.status} although all is calm, after attempt {run.attempt}")
    if run.status == RunStatus.WAITING and not run.waiting_reasons():
        yield dossier.violates("I1", "waits for nothing")


def _lease(dossier: Dossier, evidence: Evidence) -> Iterator[Violation]:
    run = dossier.run
    if run.status != RunStatus.RUNNING:
        if run.lease_expires_at is not None:
            yield dossier.violates("I11", f"is {run.status} and leased until {run.lease_expires_at}")
        return
    if run.lease_expires_at is None:
        yield dossier.violates("I11", f"is running without a lease, by {run.worker!r}")
        return
    late = _now(run) - run.lease_expires_at
    if late > timedelta(seconds=get_settings().sweep_seconds + SLACK_SECONDS):
        dead = evidence.is_alive is not None and not evidence.is_alive(run.worker)
        seen = f"is running by {run.worker!r}, whose lease ran out {late.total_seconds():.1f} s ago"
        yield dossier.violates("I12" if dead else "I11", seen + (" and which is dead" if dead else ""))


def _now(run: Run) -> datetime:
    moment: datetime = Run.objects.values_list(DbNow(), flat=True).get(pk=run.pk)
    return moment


def _history(dossier: Dossier, history: History) -> Iterator[Violation]:
    """A client has seen the log from its position on, in order, each event once and as it is stored."""
    stored = dossier.events[history.after + 1 :]
    got = [dict(event) for event in history.events]
    numbers = [event.get("seq") for event in got]
    expected = [event.get("seq") for event in stored[: len(got)]]
    if numbers != expected:
        pairs = enumerate(zip(numbers, expected, strict=False))
        wrong = next((place for place, (mine, due) in pairs if mine != due), len(expected))
        seen = f"client {history.client} got {numbers[wrong : wrong + 5]} where {expected[wrong : wrong + 5]} was due"
        yield dossier.violates("I3", seen)
    elif got != stored[: len(got)]:
        other = next(event["seq"] for event, mine in zip(got, stored, strict=False) if event != mine)
        yield dossier.violates("I3", f"client {history.client} got another event {other} than is stored")
    elif history.to_the_end and len(got) < len(stored):
        seen = f"client {history.client} was never given the last {len(stored) - len(got)} events"
        yield dossier.violates("I3", seen)
