"""The web side of the soak: people who send, decide, answer and cancel, and who ask again when an answer is lost."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import DatabaseError, connections

from agentcore import SYSTEM, Decision
from agentcore.exceptions import NotFound, RequestError
from agentcore.models import Approval, Run, Thread, ToolCall
from agentcore.services import approvals, deletion, runs, threads, unverified
from agentcore.states import LIVE_RUN_STATUSES, RunStatus, ToolCallStatus
from agentcore.testing.faults.checker import Answer
from tests.testapp import agents, world

PROMPTS = (
    "hello",
    "stream",
    "stream",
    "pure then stream",
    "unsafe",
    "idempotent",
    "checkable",
    "atomic",
    "gated",
    "unsafe idempotent checkable atomic pure then stream",
    "gated gated unsafe",
    "atomic then unsafe then stream",
    "idempotent then gated then checkable then stream",
)
LOOK_SECONDS = 0.2
MOST_TRIES = 200


class Client(threading.Thread):
    """Somebody who acts again and again until told to stop; whatever goes wrong with the database is tried again."""

    def __init__(self, name: str, seed: int, every: float = LOOK_SECONDS) -> None:
        super().__init__(name=name, daemon=True)
        self.random = random.Random(f"{seed} {name}")
        self.every = every
        self.fault: BaseException | None = None
        self._over = threading.Event()

    def run(self) -> None:
        try:
            while not self._over.wait(self.every) and self.act():
                pass
        except BaseException as error:  # noqa: BLE001 - the soak raises it
            self.fault = error
        finally:
            connections.close_all()

    def act(self) -> bool:
        """Do one thing; returns whether there is more to do."""
        raise NotImplementedError

    def stop(self) -> None:
        """Let it end, and raise what stopped it early."""
        self._over.set()
        self.join(60)
        if self.fault is not None:
            raise self.fault

    def insist(self, function: Callable[[], Any]) -> Any:
        """Ask until there is an answer, as a client does that was cut off."""
        for _ in range(MOST_TRIES):
            try:
                return function()
            except DatabaseError:
                connections.close_all()
                self._over.wait(0.1)
        raise AssertionError(f"{self.name} was not answered in {MOST_TRIES} tries")

    def try_once(self, function: Callable[[], Any]) -> Any:
        """Ask once; a refusal or an outage is no answer, and somebody will ask again."""
        try:
            return function()
        except RequestError:
            return None
        except DatabaseError:
            connections.close_all()
            return None


class Sender(Client):
    """Sends a number of prompts, spread over threads; each under a key, so that one that is repeated starts one run."""

    def __init__(self, name: str, seed: int, threads: list[Thread], count: int, seconds: float) -> None:
        super().__init__(name, seed, every=seconds / max(count, 1))
        self.threads = threads
        self.left = count
        self.answers: list[Answer] = []

    def act(self) -> bool:
        thread = self.random.choice(self.threads)
        for _ in range(self.random.choice((1, 1, 1, 3))):  # now and then several at once, which queue
            if self.left > 0:
                self._send(thread)
        return self.left > 0

    def _send(self, thread: Thread) -> None:
        agent, text = self.random.choice([agents.mixed, agents.mixed_parallel]), self.random.choice(PROMPTS)
        key = f"{self.name} {self.left}"
        run = self.insist(lambda: agent.runs.send(thread.pk, text, user=SYSTEM, key=key))
        self.answers.append(Answer(thread.pk, agent.name, key, run.pk))
        if self.random.random() < 0.1:  # a double click
            again = self.insist(lambda: agent.runs.send(thread.pk, text, user=SYSTEM, key=key))
            self.answers.append(Answer(thread.pk, agent.name, key, again.pk))
        self.left -= 1


class Remover(Sender):
    """Queues several runs in a thread of its own, and deletes it while they are under way, and then the next."""

    def __init__(self, name: str, seed: int, count: int, seconds: float) -> None:
        super().__init__(name, seed, [], count, seconds)
        self.deleted: list[UUID] = []

    def act(self) -> bool:
        thread = self.insist(lambda: threads.create(user=SYSTEM, title=f"{self.name} {self.left}"))
        for number in range(self.random.randrange(1, 4)):
            key, text = f"{self.name} {self.left} {number}", self.random.choice(PROMPTS)
            self.insist(lambda key=key, text=text: agents.mixed.runs.send(thread.pk, text, user=SYSTEM, key=key))
        self._over.wait(self.random.uniform(0, 3))
        self.insist(lambda: self._remove(thread.pk))
        self.deleted.append(thread.pk)
        self.left -= 1
        return self.left > 0

    def _remove(self, thread: UUID) -> None:
        with contextlib.suppress(NotFound):  # the answer to the first try was lost
            deletion.delete(thread, user=SYSTEM)


class Decider(Client):
    """Decides what waits for a decision, several at a time, sometimes otherwise than a colleague does just then."""

    def act(self) -> bool:
        rows = self.try_once(lambda: list(Approval.objects.pending().order_by("?")[:3]))
        batch = [self._decision(row) for row in rows or ()]
        if batch:
            self.try_once(lambda: approvals.decide(batch, user=SYSTEM))
        return True

    def _decision(self, approval: Approval) -> Decision:
        if self.random.random() < 0.2:
            return Decision(approval.pk, "deny", approval.digest)
        edited = {"text": f"what {self.name} wants"} if self.random.random() < 0.3 else None
        return Decision(approval.pk, "approve", approval.digest, edited_arguments=edited)


class Witness(Client):
    """Looks at the world, and says of each call that may have happened whether it did; lets poisoned runs try again."""

    def __init__(self, name: str, seed: int, log: Path) -> None:
        super().__init__(name, seed)
        self.log = log

    def act(self) -> bool:
        doubtful = ToolCall.objects.filter(status=ToolCallStatus.EFFECT_UNVERIFIED, run__status__in=LIVE_RUN_STATUSES)
        for call in self.try_once(lambda: list(doubtful[:10])) or ():
            self.try_once(lambda call=call: self._answer(call))
        poisoned = Run.objects.filter(status=RunStatus.WAITING, poisoned_at__isnull=False)
        for run in self.try_once(lambda: list(poisoned[:10])) or ():
            self.try_once(lambda run=run: runs.resume(run, user=SYSTEM))
        return True

    def _answer(self, call: ToolCall) -> None:
        happened = any(effect.call_id == call.call_id for effect in world.effects(self.log))
        if happened:
            unverified.resolve(call.run_id, call.call_id, "happened", user=SYSTEM, result="did it")
        else:
            answer = self.random.choice(("run_again", "give_up"))
            unverified.resolve(call.run_id, call.call_id, answer, user=SYSTEM)  # type: ignore[arg-type]


class Canceler(Client):
    """Cancels a live run now and then."""

    def act(self) -> bool:
        if self.random.random() < 0.3:
            run = self.try_once(lambda: Run.objects.live().order_by("?").first())
            if run is not None:
                self.try_once(lambda: runs.cancel(run, user=SYSTEM))
        return True
