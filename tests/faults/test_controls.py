"""Negative controls: with one protection taken out the checker must say so; with it, the same scene is clean."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connections

from agentcore import SYSTEM, Tool, ToolContext, tool
from agentcore.engine import snapshot
from agentcore.engine.runtime import Runtime
from agentcore.models import Run, ToolCall
from agentcore.realtime.database import query
from agentcore.services import approvals, execution
from agentcore.streams.hub import Hub
from agentcore.testing import Evidence, History, Turn, check_invariants
from agentcore.testing.faults.plans import armed
from tests.faults import sabotage
from tests.faults.openings import freeze_between_writes
from tests.faults.runs import LONG, events, in_order, send, status, words
from tests.integration.room import Room, drive_to_the_end, make, only_approval
from tests.stack import Stack, wait_for
from tests.testapp import agents
from tests.testapp.world import Effect

SECONDS = 20
IDS = ["with it", "without it"]


def broken(run: Run, **evidence: Any) -> set[str]:
    """The invariants that do not hold of a run."""
    return {violation.invariant for violation in check_invariants([run.pk], Evidence(calm=False, **evidence))}


# --- the token check ----------------------------------------------------------------------------------------------


@pytest.mark.longer
@pytest.mark.covers("promise:P2", "fault:W13")
@pytest.mark.parametrize(("taken_out", "found"), [("", set()), ("token_check", {"I2"})], ids=IDS)
def test_without_the_token_check_two_workers_write_one_answer(
    stack: Stack, make_thread: Callable[..., Any], taken_out: str, found: set[str]
) -> None:
    stack.hold_tools()  # the run counts on until it is let go
    run = send(agents.counter, make_thread("counter"))
    stack.sweeper()
    first = stack.worker(**{sabotage.VARIABLE: taken_out})
    said(run, 3, after=-1)
    freeze_between_writes(first, run)
    stack.worker(**{sabotage.VARIABLE: taken_out})
    wait_for(lambda: Run.objects.get(pk=run.pk).attempt == 2, LONG, "the take-over")
    taken = len(events(run))
    said(run, 3, after=taken)
    first.thaw()
    wait_for(lambda: "let go: lost" in first.text or not in_order(words(run)), LONG, "the first to go on")
    stack.release_tools()
    wait_for(lambda: Run.objects.get(pk=run.pk).terminal, LONG, "the run to end")
    assert broken(run) == found


def said(run: Run, deltas: int, after: int) -> None:
    """Wait until so much was said after a position."""

    def heard() -> bool:
        return sum(event["type"] == "text.delta" for event in events(run)[after + 1 :]) >= deltas

    wait_for(heard, LONG, f"{deltas} deltas after {after}")


# --- the rows of calls, and the approvals they consume ------------------------------------------------------------


class Doubled:
    """Two workers have both read a run as it was before either claimed it, and both go on; the second while the
    first is inside the tool."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.effects: list[Effect] = []
        self._read, self._go_on, self._acted, self._end = (threading.Event() for _ in range(4))
        self._loads = 0
        real = snapshot.load_many

        def load_many(run_ids: Any) -> Any:
            found = real(run_ids)
            self._loads += 1
            if self._loads == 1:
                self._read.set()
                assert self._go_on.wait(SECONDS)
            return found

        self._patch = lambda: monkeypatch.setattr(snapshot, "load_many", load_many)

    def act(self, ctx: ToolContext) -> str:
        """What the tool does; the first to come stays until it is told to end."""
        self.effects.append(Effect(str(ctx.run_id), ctx.call_id, ctx.attempt))
        if len(self.effects) == 1:
            self._acted.set()
            assert self._end.wait(SECONDS)
        return "done"

    def play(self, run: Run) -> None:
        self._patch()
        late = self._worker(run, "late")
        assert self._read.wait(SECONDS)
        early = self._worker(run, "early")
        assert self._acted.wait(SECONDS)
        self._go_on.set()
        late.join(SECONDS)
        self._end.set()
        early.join(SECONDS)
        assert not late.is_alive() and not early.is_alive()

    def _worker(self, run: Run, name: str) -> threading.Thread:
        def work() -> None:
            try:
                execution.drive(run.pk, Runtime(name))
            finally:
                connections.close_all()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread


def recorded(act: Callable[[ToolContext], str], *, gated: bool) -> tuple[Room, Run]:
    """A run that is pending, with a recorded unsafe call to run next."""

    @tool(name="act", needs_approval=gated)
    def body(ctx: ToolContext) -> str:
        """Act."""
        return act(ctx)

    room = make([Turn(calls=[("act", {})]), Turn(text="Done."), Turn(text="Done.")], [body])
    run = room.send()
    execution.drive(run.pk, Runtime("first"))
    if gated:
        approval = only_approval(run)
        approvals.approve(approval, user=SYSTEM, digest=approval.digest)
    assert status(run) == "pending" and ToolCall.objects.get(run=run).status == "pending"
    return room, run


@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("promise:P4")
@pytest.mark.parametrize(("taken_out", "doubled"), [((), False), (("call_row",), True)], ids=IDS)
def test_without_the_rows_of_calls_a_claim_that_fails_lets_an_unsafe_call_act_twice(
    monkeypatch: pytest.MonkeyPatch, settings: LazySettings, taken_out: tuple[str, ...], doubled: bool
) -> None:
    scene = Doubled(monkeypatch)
    settings.AGENTCORE = {**settings.AGENTCORE, "SLICE_SECONDS": 0.001}
    _, run = recorded(scene.act, gated=False)
    settings.AGENTCORE = {**settings.AGENTCORE, "SLICE_SECONDS": 60}
    with sabotage.without_unique_steps(), sabotage.off("claim_check", *taken_out):
        scene.play(run)
        assert ("I4" in broken(run, effects=scene.effects, acting_tools={"act"})) is doubled
    assert len(scene.effects) == 1 + doubled


@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("promise:P6")
@pytest.mark.parametrize(("taken_out", "doubled"), [((), False), (("consume_once",), True)], ids=IDS)
def test_without_consuming_it_once_an_approval_serves_twice(
    monkeypatch: pytest.MonkeyPatch, taken_out: tuple[str, ...], doubled: bool
) -> None:
    scene = Doubled(monkeypatch)
    _, run = recorded(scene.act, gated=True)
    with sabotage.without_unique_steps(), sabotage.off("claim_check", "call_row", *taken_out):
        scene.play(run)
        assert ("I9" in broken(run, effects=scene.effects, acting_tools={"act"})) is doubled
    assert len(scene.effects) == 1 + doubled


# --- what was approved --------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.covers("promise:P6")
@pytest.mark.parametrize(("taken_out", "found"), [((), set()), (("approval_digest",), {"I9"})], ids=IDS)
def test_without_the_digest_a_call_runs_with_what_nobody_approved(taken_out: tuple[str, ...], found: set[str]) -> None:
    effects: list[Effect] = []
    room = make([Turn(calls=[("pay", {"cents": 1})]), Turn(text="Done.")], [paying(effects)])
    run = room.play()
    approval = only_approval(run)
    approvals.approve(approval, user=SYSTEM, digest=approval.digest)
    ToolCall.objects.filter(run=run).update(arguments='{"cents":1000}')
    with sabotage.off(*taken_out):
        drive_to_the_end(run)
    assert broken(run, effects=effects, acting_tools={"pay"}) == found
    assert len(effects) == len(found)


def paying(effects: list[Effect]) -> Tool:
    @tool(needs_approval=True)
    def pay(ctx: ToolContext, cents: int) -> str:
        """Pay."""
        effects.append(Effect(str(ctx.run_id), ctx.call_id, ctx.attempt))
        return f"paid {cents}"

    return pay


# --- who follows --------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("promise:P7")
@pytest.mark.parametrize(("taken_out", "found"), [((), set()), (("poll_fallback",), {"I3"})], ids=IDS)
async def test_without_the_poll_a_lost_hint_leaves_the_client_without_the_end(
    settings: LazySettings, taken_out: tuple[str, ...], found: set[str]
) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "POLL_SECONDS": 0.2}
    room = await query(make, [Turn(deltas=["One. ", "Two."])])
    run = await query(room.send)
    seen: list[dict[str, Any]] = []
    with sabotage.off(*taken_out), armed(before_hint="raise*"):
        follower = asyncio.create_task(follow(run, seen))
        await asyncio.sleep(0.5)  # it has read what there was
        await asyncio.to_thread(drive, run)
        await asyncio.sleep(2)  # ten polls
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)
    assert seen
    assert await query(lambda: broken(run, histories=[History("follower", run.pk, seen)])) == found


async def follow(run: Run, seen: list[dict[str, Any]]) -> None:
    async with Hub.current().watch(run.stream_id) as subscription:
        while True:
            seen += [json.loads(entry.data) for entry in await subscription.next()]


def drive(run: Run) -> None:
    try:
        execution.drive(run.pk, Runtime("worker"))
    finally:
        connections.close_all()
