"""Tools are the application's own code: sync ones use the ORM inside the async loop, async ones are awaited."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractUser, Group
from django.db import connection, transaction

from agentcore import SYSTEM, Agent, ContextBlock, RunContext, ToolContext, ToolFailed, tool
from agentcore.jobs.single import execute_run
from agentcore.models import Run, ToolCall
from agentcore.services import execution
from agentcore.testing import ScriptedModel, Turn, run_until_idle

threads_seen: list[str] = []


@tool
def read_and_write(ctx: ToolContext, name: str) -> dict[str, Any]:
    """Use the ORM as a view would."""
    threads_seen.append(threading.current_thread().name)
    with transaction.atomic():
        group = Group.objects.create(name=name)
        group.user_set.add(ctx.user)
    return {"groups": [*ctx.user.groups.values_list("name", flat=True)], "user": ctx.user.get_username()}


@tool
async def read_and_write_async(ctx: ToolContext, name: str) -> dict[str, Any]:
    """Use the ORM as an async view would."""
    await asyncio.sleep(0)
    group = await Group.objects.acreate(name=name)
    await sync_to_async(group.user_set.add)(ctx.user)
    return {"groups": [item.name async for item in ctx.user.groups.all()], "user": ctx.user.get_username()}


@tool
def break_off(name: str) -> None:
    """Write, and fail half-way."""
    with transaction.atomic():
        Group.objects.create(name=name)
        raise ToolFailed("taken back")


def needs_approval(arguments: Any, ctx: ToolContext) -> bool:
    """Ask the database whether a person must look."""
    return Group.objects.filter(name=f"guarded {arguments['name']}").exists()


@tool(needs_approval=needs_approval)
def guarded(name: str) -> str:
    """Run at once, unless the database says otherwise."""
    return name


def loader(ctx: RunContext) -> list[ContextBlock]:
    """Use the ORM before the model is asked."""
    return [ContextBlock("groups", ",".join(Group.objects.values_list("name", flat=True)))]


def instructions(ctx: RunContext) -> str:
    """Use the ORM for the instructions."""
    return f"There are {get_user_model().objects.count()} people."


TOOLS = [read_and_write, read_and_write_async, break_off, guarded]


def drive_inline(run: Run) -> Run:
    return run_until_idle(run)


def drive_in_threads(run: Run) -> Run:
    execution.drive(run.pk)
    run.refresh_from_db()
    return run


def drive_as_a_job(run: Run) -> Run:
    execute_run(str(run.pk))
    run.refresh_from_db()
    return run


def drive_from_async_code(run: Run) -> Run:
    return async_to_sync(execution.aexecute)(run, user=SYSTEM)


Drive = Callable[[Run], Run]
DRIVES = [drive_inline, drive_in_threads, drive_as_a_job, drive_from_async_code]
real = pytest.mark.django_db(transaction=True)


@pytest.fixture
def play(user: AbstractUser) -> Callable[..., tuple[Run, ScriptedModel]]:
    """A function that plays calls with one way of driving a run."""
    threads_seen.clear()

    def play(drive: Drive, *calls: Any, **options: Any) -> tuple[Run, ScriptedModel]:
        model = ScriptedModel([Turn(calls=calls), Turn(text="Done.")])
        agent = Agent(name="test", model=model, tools=TOOLS, **options)
        return drive(agent.runs.send(agent.threads.create(user=user), "Go", user=user)), model

    return play


@real
@pytest.mark.covers("dj:ASY-3")
@pytest.mark.parametrize("drive", DRIVES)
@pytest.mark.parametrize("name", ["read_and_write", "read_and_write_async"])
def test_a_tool_reads_and_writes_through_the_orm(play: Any, user: AbstractUser, drive: Drive, name: str) -> None:
    run, _ = play(drive, (name, {"name": "first"}))
    assert run.status == "succeeded", run.error_message
    call = ToolCall.objects.get()
    assert (call.status, call.result_json) == ("succeeded", {"groups": ["first"], "user": user.get_username()})
    assert Group.objects.get().user_set.get() == user
    assert not connection.in_atomic_block


@real
@pytest.mark.covers("dj:ASY-3")
@pytest.mark.parametrize("drive", DRIVES)
def test_several_tools_of_both_kinds_use_the_orm_at_once(play: Any, drive: Drive) -> None:
    kinds = ["read_and_write", "read_and_write_async"] * 3
    run, _ = play(drive, *((kind, {"name": f"group {number}"}) for number, kind in enumerate(kinds)))
    assert run.status == "succeeded", run.error_message
    assert [call.status for call in ToolCall.objects.all()] == ["succeeded"] * 6
    assert Group.objects.count() == 6


@pytest.mark.django_db
@pytest.mark.covers("dj:ASY-3", "dj:TST-2")
def test_inside_a_plain_test_case_everything_happens_on_its_own_connection(play: Any, user: AbstractUser) -> None:
    Group.objects.create(name="not committed")
    calls = [("read_and_write", {"name": "a"}), ("read_and_write_async", {"name": "b"})]
    run, model = play(drive_inline, *calls, context=[loader], instructions=instructions)
    assert run.status == "succeeded", run.error_message
    assert {call.status for call in ToolCall.objects.all()} == {"succeeded"}
    assert model.requests[0].context[0].text == "not committed"
    assert connection.in_atomic_block


@real
@pytest.mark.covers("dj:ASY-3")
@pytest.mark.parametrize("drive", DRIVES)
def test_loaders_instructions_and_the_question_for_approval_use_the_orm(
    play: Any, user: AbstractUser, drive: Drive
) -> None:
    Group.objects.create(name="guarded b")
    run, model = play(
        drive, ("guarded", {"name": "a"}), ("guarded", {"name": "b"}), context=[loader], instructions=instructions
    )
    assert run.status == "waiting", run.error_message
    assert {call.arguments_json["name"]: call.status for call in ToolCall.objects.all()} == {
        "a": "succeeded",
        "b": "waiting",
    }
    assert model.requests[0].context[0].text == "guarded b"
    assert model.requests[0].instructions == "There are 1 people."


@real
@pytest.mark.parametrize("drive", DRIVES)
def test_a_tool_that_fails_half_way_takes_its_own_writes_back_and_nothing_of_the_run(play: Any, drive: Drive) -> None:
    run, _ = play(drive, ("break_off", {"name": "x"}), ("read_and_write", {"name": "y"}))
    assert run.status == "succeeded", run.error_message
    failed, done = ToolCall.objects.order_by("position")
    assert (failed.status, done.status) == ("failed", "succeeded")
    assert failed.error == "taken back"
    assert [group.name for group in Group.objects.all()] == ["y"]


@real
@pytest.mark.covers("dj:ASY-3")
def test_in_a_worker_a_sync_tool_blocks_neither_the_loop_nor_the_engines_connection(play: Any) -> None:
    play(drive_in_threads, ("read_and_write", {"name": "a"}))
    assert threads_seen and threads_seen[0].startswith("agentcore-app")
    threads_seen.clear()


@pytest.mark.django_db
def test_in_a_test_a_sync_tool_runs_on_the_tests_own_thread(play: Any) -> None:
    play(drive_inline, ("read_and_write", {"name": "a"}))
    assert threads_seen == [threading.current_thread().name]
