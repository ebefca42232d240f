"""Driving a run from asynchronous code: other work goes on beside it, and no connection stays open."""

from __future__ import annotations

import asyncio

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections, transaction

from agentcore import SYSTEM
from agentcore.exceptions import InsideTransaction
from agentcore.models import Run
from agentcore.providers import StepFinished, TextDelta
from agentcore.services import execution
from agentcore.testing import ScriptedModel, Turn
from tests.integration.room import fresh, make, race

pytestmark = pytest.mark.django_db(transaction=True)


class Waits:
    """A model that says nothing until it is let go on."""

    name, provider = "waits", "tests"

    def __init__(self) -> None:
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()

    async def stream(self, request):
        self.asked.set()
        await self.go_on.wait()
        yield TextDelta("Done.")
        yield StepFinished("stop")


def alone(main):
    """Run an asynchronous program in a thread of its own, as a process of its own would."""
    (outcome,) = race(lambda: asyncio.run(main()))
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def test_beside_a_run_that_waits_for_its_model_another_goes_on_and_so_does_the_orm():
    room = make([])
    slow = room.send()
    quick = room.agent.runs.send(room.agent.threads.create(user=SYSTEM), "Hi", user=SYSTEM)

    async def main():
        model = Waits()
        driving = asyncio.create_task(execution.aexecute(slow, user=SYSTEM, model=model))
        try:
            await asyncio.wait_for(model.asked.wait(), 10)
            assert await asyncio.wait_for(Run.objects.acount(), 5) == 2
            other = execution.aexecute(quick, user=SYSTEM, model=ScriptedModel([Turn("Quick.")]))
            assert (await asyncio.wait_for(other, 10)).status == "succeeded"
        finally:
            model.go_on.set()
        return (await driving).status

    assert alone(main) == "succeeded"
    assert fresh(quick).finished_at < fresh(slow).finished_at


def test_nothing_keeps_a_database_connection_after_aexecute():
    run = make([Turn("Done.")]).send()

    async def main():
        done = await execution.aexecute(run, user=SYSTEM)
        open_one = await sync_to_async(lambda: connection.connection is not None, thread_sensitive=True)()
        return done.status, open_one

    assert alone(main) == ("succeeded", False)


def test_execute_leaves_the_callers_connection_alone():
    run = make([Turn("Done.")]).send()
    connection.ensure_connection()
    before = connections["default"].connection
    assert execution.execute(run, user=SYSTEM).status == "succeeded"
    assert connections["default"].connection is before


def test_a_run_is_not_driven_inside_a_transaction_and_none_the_worse_for_it():
    run = make([Turn(text="Done.")]).send()
    with pytest.raises(InsideTransaction, match="after the commit"), transaction.atomic():
        execution.execute(run, user=SYSTEM)
    assert (fresh(run).status, fresh(run).attempt) == ("pending", 0)
    assert execution.execute(run, user=SYSTEM).status == "succeeded"
