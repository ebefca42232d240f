"""Atomic tools that write a row, and how a run of them is driven."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import async_to_sync
from django.contrib.auth.models import Group
from django.db import OperationalError

from agentcore import Tool, tool
from agentcore.engine.drive import Outcome
from agentcore.engine.runtime import Runtime
from agentcore.models import Run, ToolCall
from agentcore.services import execution
from agentcore.testing import Turn
from tests.integration.room import Room, make
from tests.stack import wait_for


def write_and(then: Callable[[], Any], **options: Any) -> Tool:
    """An atomic tool that writes a row, and does something after it."""

    @tool(name="book", effect="atomic", **options)
    def write(name: str) -> Any:
        """Write a row, and go on."""
        Group.objects.create(name=name)
        return then()

    return write


def raises(error: BaseException) -> Any:
    """Raise it, where only an expression may stand."""
    raise error


def room(*tools: Tool, calls: int = 1) -> Room:
    """An agent that asks for the first tool as often as told, and ends."""
    asked = [(tools[0].name, {"name": f"row {number}"}) for number in range(calls)]
    return make([Turn(calls=asked), Turn(text="Done.")], tools)


def drive(run: Run) -> Outcome:
    """Drive a run in this thread."""
    return execution.drive(run.pk)


def drive_and_leave(run: Run, meanwhile: Callable[[], Any] = lambda: None) -> Outcome:
    """Drive a run whose body stays behind in its thread, do something, and wait until that thread is done."""
    runtime = Runtime("worker")

    async def drive_and_close() -> Outcome:
        outcome = await execution.adrive(run.pk, runtime)
        await runtime.aclose()
        return outcome

    outcome = async_to_sync(drive_and_close)()
    meanwhile()
    wait_for(lambda: not runtime.threads.stuck(), 20, "the body to end")
    return outcome


def the_call() -> ToolCall:
    """The one call there is."""
    return ToolCall.objects.get()


class Serialization(Exception):
    """What a driver raises where another transaction was in the way."""

    sqlstate = "40001"


def conflict() -> OperationalError:
    """What Django raises there."""
    error = OperationalError("another transaction was in the way")
    error.__cause__ = Serialization()
    return error
