"""What tests of the engine share: agents that play a script, dying workers, races, and a look at the log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from unittest import mock
from uuid import UUID

from asgiref.sync import async_to_sync
from django.db import connection, connections
from django.db.models import F
from django.utils import timezone

from agentcore import SYSTEM, Agent, Tool
from agentcore.database import bulk
from agentcore.engine import snapshot, transitions
from agentcore.engine.drive import Outcome
from agentcore.engine.runtime import Runtime
from agentcore.exceptions import LeaseLost
from agentcore.journal.commit import Allocation, Claim, Commit, Request, RowHeld
from agentcore.journal.writer import commit_batch
from agentcore.models import Approval, Run, Step, Thread, ToolCall
from agentcore.services import approvals, events, execution
from agentcore.states import RunStatus
from agentcore.testing import ScriptedModel, Turn, run_until_idle
from agentcore.testing.faults.plans import armed
from agentcore.values.events import RunStarted

AGO = timedelta(minutes=10)


class Died(LeaseLost):
    """The worker is gone in this very moment: nothing below the test catches it, and nothing is cleaned up.

    What a tool or a model raises is contained; so a worker that dies of one of these dies at the
    next failpoint, before anything is made of it.
    """

    raised = False

    def __init__(self) -> None:
        super().__init__()
        Died.raised = True

    @classmethod
    def at_once(cls) -> None:
        """Die at the point this is armed at."""
        raise cls

    @classmethod
    def at_the_next_point(cls) -> None:
        """Die, where application code has raised it."""
        if cls.raised:
            raise cls


@dataclass(frozen=True)
class Room:
    """An agent with its scripted model, and a thread to talk in."""

    agent: Agent
    model: Any
    thread: Thread

    def send(self, content: Any = "Go", *, user: Any = SYSTEM, **options: Any) -> Run:
        """Start a run and leave it pending."""
        return self.agent.runs.send(self.thread, content, user=user, **options)

    def play(self, text: str = "Go") -> Run:
        """Start a run and drive it until it ends or waits."""
        return run_until_idle(self.send(text))


def make(turns: Sequence[Any] | Any, tools: Sequence[Tool] = (), *, user: Any = SYSTEM, **options: Any) -> Room:
    """An agent called `test` that plays the list of `turns`, or is driven by the model (or tuple of models) instead."""
    model = ScriptedModel(turns) if isinstance(turns, list) else turns
    agent = Agent(name="test", model=model, tools=list(tools), **options)
    return Room(agent, model, agent.threads.create(user=user))


def log(run: Run) -> list[dict[str, Any]]:
    """The run's events; fails where their numbers have a gap."""
    found = events.read(run.pk, user=SYSTEM, limit=1000).events
    assert [event["seq"] for event in found] == list(range(len(found)))
    return found


def types(run: Run) -> list[str]:
    """The types of the run's events."""
    return [event["type"] for event in log(run)]


def only_event(run: Run, kind: str) -> dict[str, Any]:
    """The one event of this type that the run has logged."""
    (event,) = [event for event in log(run) if event["type"] == kind]
    return event


def assert_ended_once(run: Run, status: str) -> None:
    """The run has this status, and its log says so once, at the end."""
    assert Run.objects.get(pk=run.pk).status == status
    found = log(run)
    assert [event["type"] for event in found].count("done") == 1
    assert (found[-1]["type"], found[-1]["status"]) == ("done", status)
    assert not ToolCall.objects.filter(run=run).exclude(status="effect_unverified").open().exists()
    assert not Approval.objects.pending().filter(run=run).exists()


def models_of(run: Run) -> list[tuple[str, str, str]]:
    """The models that the run has asked, in order, with how each step ended and its error code."""
    found = Step.objects.filter(run=run, kind="model").order_by("started_at", "pk")
    return [(step.model, str(step.status), step.error_code) for step in found]


def only_approval(run: Run) -> Approval:
    """The one approval the run waits for."""
    return Approval.objects.select_related("tool_call").get(run=run, status="pending")


def approve(run: Run) -> None:
    """Approve the one call the run waits for."""
    approval = only_approval(run)
    approvals.approve(approval, user=SYSTEM, digest=approval.digest)


def fresh(row: Any) -> Any:
    """The row as the database has it now."""
    return type(row)._default_manager.get(pk=row.pk)


def lapse(run: Run) -> None:
    """Let the lease run out, and the grace of every hint: what time does to a run whose worker is gone."""
    Run.objects.filter(pk=run.pk, status="running").update(lease_expires_at=timezone.now() - AGO)
    Run.objects.filter(pk=run.pk, dispatched_at__isnull=False).update(dispatched_at=F("dispatched_at") - AGO)


def claim(run_id: UUID, worker: str = "worker") -> Claim | None:
    """Claim a run as a worker does, and do no more; None where it cannot be claimed."""
    state = snapshot.load(run_id)
    taken = Claim.of(state.run, worker, alone=True)
    started = Commit(events=[RunStarted(taken.attempt)], thread_events=[taken.changed(RunStatus.RUNNING)])
    left = transitions.left_open(run_id, taken.attempt, snapshot.WORKER_LOST) if state.lapsed else None
    started = started.and_then(left) if left else started
    request = Request(taken, started, claims=True)
    while isinstance(answer := commit_batch([request])[0], RowHeld):
        time.sleep(0.01)  # as the journal does
    return taken if isinstance(answer, Allocation) else None


def commit(claim: Claim, said: Commit) -> Allocation:
    """Write a commit under a claim, or raise why it was refused."""
    (outcome,) = commit_batch([Request(claim, said)])
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def die_driving(run: Run) -> None:
    """Drive the run with a worker that a tool or a model kills, and let its lease run out."""
    Died.raised = False
    with armed(after_tool_return=Died.at_the_next_point, mid_stream=Died.at_the_next_point):
        execution.drive(run.pk, Runtime("doomed", inline=True))
    assert Died.raised, f"nothing killed the worker; the run is {fresh(run).status}"
    lapse(run)


def drive_to_the_end(run: Run) -> Run:
    """Drive a run that needs nobody, as workers do: again while it is pending."""
    for _ in range(20):
        execution.drive(run.pk, Runtime("worker", inline=True))
        run.refresh_from_db()
        if run.status != "pending":
            return run
    raise AssertionError("the run stays pending")


def drive_as_worker(run: Run, *, alone: bool = True) -> Outcome:
    """Drive a run on connections and threads of its own, as a worker of one run or of many does, and end them."""

    async def drive() -> Outcome:
        runtime = Runtime("worker", alone=alone, own_threads=not alone)
        try:
            return await execution.adrive(run.pk, runtime)
        finally:
            await runtime.aclose()

    (outcome,) = race(lambda: async_to_sync(drive)())
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome  # type: ignore[no-any-return]


def played(made: Tool) -> tuple[Run, ToolCall]:
    """A run that a worker has driven, and its one call, which is of this tool and is approved where it must be."""
    run = make([Turn(calls=[(made.name, {})]), Turn(text="Done.")], [made]).send()
    drive_as_worker(run)
    if made.needs_approval and fresh(run).status == "waiting":
        approve(run)
        drive_as_worker(run)
    return fresh(run), run.tool_calls.get()


def race(*functions: Callable[[], Any]) -> list[Any]:
    """Call all at the same moment, each on a connection of its own; return what each returned or raised."""
    barrier = threading.Barrier(len(functions))
    outcomes: list[Any] = [None] * len(functions)

    def one(index: int, function: Callable[[], Any]) -> None:
        try:
            barrier.wait(20)
            outcomes[index] = function()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test looks at it
            outcomes[index] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=one, args=item, daemon=True) for item in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a racer hangs"
    return outcomes


@contextmanager
def statements() -> Iterator[list[str]]:
    """Every statement of this thread's connection in order, also those that pass by Django's cursor."""
    found: list[str] = []

    def note(execute: Any, text: str, params: Any, many: bool, context: Any) -> Any:
        found.append(text)
        return execute(text, params, many, context)

    really = bulk.run

    def on_postgres(text: str, params: Any) -> Any:
        found.append(text)
        return really(text, params)

    with connection.execute_wrapper(note), mock.patch.object(bulk, "run", on_postgres):
        yield found


@contextmanager
def driven(run: Run) -> Iterator[threading.Thread]:
    """Drive a run in a worker thread while the block lasts, and wait for it to let go."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            execution.drive(run.pk, Runtime("worker"))
        except BaseException as error:  # noqa: BLE001 - shown by the test
            failures.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield thread
    thread.join(20)
    assert not thread.is_alive(), "the worker still holds the run"
    if failures:
        raise failures[0]
