"""What breaks off a step or a run, and what the rows say afterwards."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator

import pytest
from django.db import connections, transaction

from agentcore import SYSTEM, Limits, Usage, tool
from agentcore.engine import transitions
from agentcore.engine.runtime import Runtime
from agentcore.exceptions import ModelError, UserError
from agentcore.journal import fence, write
from agentcore.journal.commit import Moved
from agentcore.models import Approval, Message
from agentcore.providers import CallRequested, ModelEvent, ModelRequest, StepFinished, TextDelta, UsageReported
from agentcore.services import approvals, execution, runs
from agentcore.testing import Turn
from tests.integration.room import fresh, make, race, types

pytestmark = pytest.mark.django_db(transaction=True)


def drive(run):
    """Drive a run on a connection of its own, as a worker does; return what came of it."""
    (outcome,) = race(lambda: execution.drive(run.pk, Runtime("worker")))
    return outcome


def test_a_run_is_not_driven_inside_somebodys_transaction():
    ran = []

    @tool
    async def act() -> str:
        """Act."""
        ran.append(1)
        return "done"

    room = make([Turn(calls=[("act", {})]), Turn(text="ok")], [act])
    run = room.send()

    def view():
        with transaction.atomic():
            room.agent.runs.execute(run, user=SYSTEM)

    (refusal,) = race(view)
    assert isinstance(refusal, UserError) and "transaction" in refusal.message
    assert ran == [] and fresh(run).status == "pending"
    drive(run)
    assert ran == [1] and fresh(run).status == "succeeded"


class HoldsItsEnd:
    """Says hello, and ends its step when the test says so."""

    name, provider = "held", "tests"

    def __init__(self) -> None:
        self.go_on = threading.Event()

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        yield TextDelta("hello")
        await asyncio.to_thread(self.go_on.wait, 10)
        yield UsageReported(Usage(10, 5, 15))
        yield CallRequested("c", "look", {})
        yield StepFinished("tool_calls")


def test_a_cancel_that_meets_the_steps_commit_keeps_its_text_and_tokens_once(monkeypatch):
    @tool(effect="pure")
    async def look() -> str:
        """Look."""
        return "seen"

    model = HoldsItsEnd()
    run = make(model, [look]).send()
    seen, committed, real_ours, real_write = threading.Event(), threading.Event(), fence.ours, write.write

    def ours(watched):
        if seen.is_set() and not committed.is_set():
            race(lambda: runs.cancel(run.pk, user=SYSTEM))
            model.go_on.set()
            time.sleep(0.3)  # the step's commit queues up behind this look
        return real_ours(watched)

    def commit(requests):
        done = real_write(requests)
        for request in requests:
            if any(event.type == "text.delta" for event in request.commit.events if hasattr(event, "type")):
                seen.set()
            if any(insert.row.__class__.__name__ == "ToolCall" for insert in request.commit.inserts):
                committed.set()
        return done

    monkeypatch.setattr(fence, "ours", ours)
    monkeypatch.setattr(write, "write", commit)
    drive(run)
    assert fresh(run).status == "canceled"
    assert Message.objects.filter(run=run, author_kind="agent").count() == 1
    assert types(run).count("usage") <= 1 and fresh(run).usage.get("total_tokens", 0) in (0, 15)


def test_a_decision_that_lands_while_a_run_is_being_ended_strands_nothing(monkeypatch):
    started = threading.Event()

    @tool(needs_approval=True)
    async def gated() -> str:
        """Wait for a person."""
        return "done"

    @tool(effect="pure")
    async def slow() -> str:
        """Take long."""
        started.set()
        await asyncio.sleep(30)
        return "done"

    run = make([Turn(calls=[("slow", {}), ("gated", {})]), Turn(text="ok")], [slow, gated]).send()
    real_end, decided = transitions.end, []

    def end(*args, **options):
        entry = real_end(*args, **options)
        if not decided:
            approval = Approval.objects.get(run=run)
            decided.extend(race(lambda: approvals.approve(approval, user=SYSTEM, digest=approval.digest)))
        return entry

    monkeypatch.setattr(transitions, "end", end)
    race(
        lambda: execution.drive(run.pk, Runtime("worker")),
        lambda: (started.wait(10), runs.cancel(run.pk, user=SYSTEM)),
    )
    assert decided and fresh(run).status == "canceled"
    assert types(run)[-1] == "done" and not run.tool_calls.open().exists()


def test_a_loader_that_hangs_ends_the_run_with_its_name(settings):
    settings.AGENTCORE = {**settings.AGENTCORE, "TOOL_TIMEOUT": 0.3}

    async def stuck(ctx):
        await asyncio.sleep(600)
        return []

    run = make([Turn(text="ok")], context=[stuck]).send()
    drive(run)
    assert (fresh(run).status, fresh(run).error_code) == ("failed", "context_failed")
    assert "stuck" in fresh(run).error_detail


class Drips:
    """Says a word now and then, for ever."""

    name, provider = "drips", "tests"

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        while True:
            yield TextDelta("drip ")
            await asyncio.sleep(0.05)


def test_a_model_that_never_ends_is_ended_by_the_runs_time_limit_and_its_text_is_kept():
    run = make(Drips(), limits=Limits(max_seconds=0.5)).send()
    drive(run)
    assert (fresh(run).status, fresh(run).error_code) == ("failed", "limit_time")
    assert Message.objects.get(run=run, author_kind="agent").text.startswith("drip")


def test_a_model_that_never_ends_is_a_timeout_without_a_limit_of_the_agent(settings):
    settings.AGENTCORE = {**settings.AGENTCORE, "STEP_SECONDS": 0.3, "MODEL_RETRIES": 0}
    run = make(Drips()).send()
    drive(run)
    assert (fresh(run).status, fresh(run).error_code) == ("failed", "timeout")


class Deadline(Exception):
    """What a job queue raises when a job has taken too long."""


def test_a_jobs_own_deadline_is_no_failure_of_the_run(monkeypatch):
    run = make([Turn(text="ok")]).send()
    real = write.write

    def commit(orders):
        if any(getattr(event, "type", "") == "step.finished" for order in orders for event in order.commit.events):
            raise Deadline
        return real(orders)

    monkeypatch.setattr(write, "write", commit)
    (outcome,) = race(lambda: execution.drive(run.pk, Runtime("worker", gives_up_on=(Deadline,))))
    assert isinstance(outcome, Deadline)
    assert fresh(run).status == "running" and types(run)[-1] != "done"
    connections.close_all()


def test_only_a_transaction_around_the_drive_is_called_one(monkeypatch):
    run = make([Turn(text="ok")]).send()

    def refuse(*args):
        raise RuntimeError("something else")

    monkeypatch.setattr(write, "write", refuse)
    (refusal,) = race(lambda: execution.drive(run.pk, Runtime("worker")))
    assert type(refusal) is RuntimeError and "something else" in str(refusal)


def test_an_end_that_never_fits_its_rows_is_left_to_the_next_worker(monkeypatch):
    run = make([Turn(error=ModelError("no", code="auth"))]).send()
    tries, real = [], write.write

    def commit(orders):
        if any(item.commit.run.get("status") == "failed" for item in orders):
            tries.append(1)
            raise Moved("never")
        return real(orders)

    monkeypatch.setattr(write, "write", commit)
    (outcome,) = race(lambda: execution.drive(run.pk, Runtime("worker")))
    assert outcome == "lost" and 1 < len(tries) < 100
    assert fresh(run).status == "running" and types(run)[-1] != "done"
