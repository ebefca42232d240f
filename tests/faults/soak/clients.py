"""The web side of the soak: people who send, decide, answer and cancel, and who ask again when an answer is lost."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.db import DatabaseError, connections

from agentcore import SYSTEM
from agentcore.exceptions import RequestError
from agentcore.models import Approval, Run, Thread, ToolCall
from agentcore.services import approvals, runs, unverified
from agentcore.services.approvals import Decision
from agentcore.states import LIVE_RUN_STATUSES, RunStatus, ToolCallStatus
from agentcore.testing.checker import Answer
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
        agent = self.random.choice([agents.mixed, agents.mixed_parallel])
        thread, text = self.random.choice(self.threads), self.random.choice(PROMPTS)
        key = f"{self.name} {self.left}"
        run = self.insist(lambda: agent.runs.send(thread.pk, text, user=SYSTEM, key=key))
        self.answers.append(Answer(thread.pk, agent.name, key, run.pk))
        if self.random.random() < 0.1:  # a double click
            again = self.insist(lambda: agent.runs.send(thread.pk, text, user=SYSTEM, key=key))
            self.answers.append(Answer(thread.pk, agent.name, key, again.pk))
        self.left -= 1
        return self.left > 0


class Decider(Client):
    """Decides what waits for a decision, several at a time, sometimes otherwise than a colleague does just then."""

    def act(self) -> bool:
        rows = self.try_once(lambda: list(Approval.objects.pending().order_by("?")[:3]))
        verdicts = {row.pk: "approve" if self.random.random() < 0.8 else "deny" for row in rows or ()}
        batch = [Decision(row.pk, verdicts[row.pk], row.digest) for row in rows or ()]  # type: ignore[arg-type]
        if batch:
            self.try_once(lambda: approvals.decide(batch, user=SYSTEM))
        return True


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
