"""The soak: runs of every kind, six workers, clients, a nemesis; then calm; then the checker."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from uuid import UUID

from django.contrib.auth import get_user_model

from agentcore import SYSTEM
from agentcore.models import Approval, Run, Thread
from agentcore.testing import Evidence, FaultProxy, Violation, check_invariants
from agentcore.testing.faults.checker import worker_is_alive
from tests.faults.browser import Browser
from tests.faults.soak.clients import Canceler, Client, Decider, Remover, Sender, Witness
from tests.faults.soak.crew import Crew
from tests.faults.soak.followers import Reader, Watcher
from tests.faults.soak.nemesis import Nemesis
from tests.stack import Stack, database_url, wait_for
from tests.testapp import agents, asked, rows
from tests.testapp.mixed import ACTING

RUNS_A_MINUTE = 200 / 3
DELETIONS_A_MINUTE = 6
THREADS = 12
CALM_SECONDS = 30.0
LEAST_CALM_SECONDS = 8.0
STILL_SECONDS = 20.0
START_SECONDS = 60.0


@dataclass
class Report:
    """How a soak went."""

    seed: int
    violations: list[Violation]
    runs: Counter[str]
    faults: dict[str, int]
    last_faults: list[str]
    seconds: float
    traces: list[str] = field(default_factory=list)
    witnessed: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{count:5}  {name}" for name, count in sorted(self.faults.items(), key=lambda item: -item[1])]
        ended = ", ".join(f"{count} {status}" for status, count in sorted(self.runs.items()))
        lines += [f"{sum(self.runs.values())} runs: {ended}; {sum(self.faults.values())} faults"]
        lines += [", ".join(f"{count} {what}" for what, count in self.witnessed.items())]
        if self.violations:
            lines += [*self.traces, "the last faults:", *self.last_faults, *map(str, self.violations)]
        verdict = f"FAILED, {len(self.violations)} violations" if self.violations else "ok"
        return "\n".join([*lines, f"soak: {verdict} seed={self.seed}"])


@dataclass
class Soak:
    """One soak on a stack with a Redis of its own and an empty database."""

    stack: Stack
    seed: int
    minutes: float
    threads: list[Thread] = field(default_factory=list)

    def run(self) -> Report:
        """Let it happen, and check what is left."""
        assert self.stack.redis is not None
        began = time.monotonic()
        owner = get_user_model().objects.create_user("soak")
        self.threads = [agents.mixed.threads.create(user=owner, title=f"soak {number}") for number in range(THREADS)]
        with FaultProxy(database_url()) as database, FaultProxy(self.stack.redis.url) as redis:
            crew = Crew(self.stack, database, redis)
            crew.hire()
            nemesis = Nemesis(self.seed, crew)
            wait_for(lambda: all(post.at_work for post in crew.posts), START_SECONDS, "the workers to be ready")
            senders, others, readers = self._clients(crew, Browser.of(crew.origin, owner).cookie)
            clients = [*senders, *others, *readers]
            for client in clients:
                client.start()
            nemesis.began = time.monotonic()
            nemesis.rage(self.minutes * 60)
            nemesis.calm()
            self._calm(crew, senders)
            ends = dict(Run.objects.values_list("pk", "next_seq"))
            self._let_them_read(readers, ends)
            for client in clients:
                client.stop()
            evidence = self._evidence(senders, readers, ends)
            violations = check_invariants(evidence=evidence)
        statuses = Counter(Run.objects.values_list("status", flat=True))
        traces = [self._trace(run_id) for run_id in sorted({violation.run for violation in violations} - {""})[:10]]
        seconds = time.monotonic() - began
        witnessed = {
            "model requests": len(evidence.requests),
            "edited approvals": Approval.objects.exclude(edited_arguments="").count(),
            "threads deleted": len(evidence.deleted),
        }
        happened = [*nemesis.happened]
        return Report(self.seed, violations, statuses, nemesis.counts, happened, seconds, traces, witnessed)

    def _trace(self, run_id: str) -> str:
        """What there is to read about a run: its log, its calls, and what the processes wrote of it."""
        run = Run.objects.filter(pk=run_id).first()
        if run is None:
            return f"--- run {run_id} is not there"
        found = agents.mixed.events.read(run, user=SYSTEM, limit=1000).events
        lines = [f"--- run {run_id} of {run.agent}: {run.status}, attempt {run.attempt}, worker {run.worker}"]
        names = ("step", "attempt", "call_id", "status", "reasons", "reason", "text")
        lines += [
            f"{event['ts']} {event['seq']:4} {event['type']} {' '.join(str(event.get(name, '')) for name in names)}"
            for event in found
        ]
        lines += [f"{call.call_id} {call.name} {call.status} in {call.tries} tries" for call in run.tool_calls.all()]
        lines += [str(effect) for effect in [*self.stack.effects(), *rows.committed()] if effect.run_id == run_id]
        for process in self.stack.processes:
            lines += [f"{process.pid}: {line}" for line in process.text.splitlines() if run_id in line]
        return "\n".join(lines)

    def _clients(self, crew: Crew, cookie: str) -> tuple[list[Sender], list[Client], list[Reader]]:
        count, seconds = round(RUNS_A_MINUTE * self.minutes), self.minutes * 60 * 0.9
        names = ("ada", "bob", "eve")
        senders = [
            Sender(name, self.seed, self.threads, count // len(names) + (place < count % len(names)), seconds)
            for place, name in enumerate(names)
        ]
        senders.append(Remover("rosa", self.seed, round(DELETIONS_A_MINUTE * self.minutes), seconds))
        others = [
            Decider("olga", self.seed),
            Decider("omar", self.seed),
            Witness("wilma", self.seed, self.stack.world_log),
            Canceler("carl", self.seed, every=1),
        ]
        watched = random.Random(self.seed).sample(self.threads, 3)
        watchers = [
            Watcher(f"watcher {number}", self.seed, thread, crew.origin, cookie)
            for number, thread in enumerate(watched)
        ]
        return senders, others, [Reader("reader", self.seed), *watchers]

    def _calm(self, crew: Crew, senders: list[Sender]) -> None:
        """Wait until every run has come to rest, as long as anything goes on at all."""
        began = moved = time.monotonic()
        before = None
        while (now := time.monotonic()) - began < LEAST_CALM_SECONDS or not self._at_rest(senders):
            crew.refill()
            after = sorted(Run.objects.values_list("pk", "next_seq"))
            moved = now if after != before else moved
            before = after
            if now - began > CALM_SECONDS and now - moved > STILL_SECONDS:
                return
            time.sleep(0.2)

    def _at_rest(self, senders: list[Sender]) -> bool:
        """Whether all has been sent, and nothing is left to be done by a worker or by a person."""
        if any(sender.is_alive() for sender in senders):
            return False
        return not (Run.objects.live().exists() or Thread.objects.exclude(removal_due_at=None).exists())

    def _let_them_read(self, readers: list[Reader], ends: dict[UUID, int]) -> None:
        until = time.monotonic() + CALM_SECONDS
        while not all(reader.has_seen(ends) for reader in readers) and time.monotonic() < until:
            time.sleep(0.2)

    def _evidence(self, senders: list[Sender], readers: list[Reader], ends: dict[UUID, int]) -> Evidence:
        return Evidence(
            answers=[answer for sender in senders for answer in sender.answers],
            effects=[*self.stack.effects(), *rows.committed()],
            acting_tools=ACTING,
            requests=asked.requests(self.stack.world_log),
            deleted=[thread for sender in senders if isinstance(sender, Remover) for thread in sender.deleted],
            histories=[history for reader in readers for history in reader.histories(ends)],
            is_alive=worker_is_alive,
        )


def minutes_asked_for(default: float) -> float:
    """How long the environment wants it to last."""
    return float(os.environ.get("SOAK_MINUTES") or default)


def seed_asked_for() -> int:
    """The seed of the environment, or a new one."""
    return int(os.environ.get("SOAK_SEED") or random.SystemRandom().randrange(1_000_000))
