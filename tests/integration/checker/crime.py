"""What tests of the checker share: true runs, and hands that falsify their rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

from django.utils import timezone

from agentcore import SYSTEM, Agent, Tool, ToolContext, tool
from agentcore.models import Run
from agentcore.services import approvals
from agentcore.streams.models import Record
from agentcore.testing import Evidence, ScriptedModel, Turn, check_invariants, run_until_idle
from agentcore.values import jsontext
from tests.integration.room import Room, log, only_approval
from tests.testapp.world import Effect

Events = list[dict[str, Any]]
HAPPENED: list[Effect] = []


@tool
def act(ctx: ToolContext, text: str) -> str:
    """Do something that must not be done twice."""
    HAPPENED.append(Effect(str(ctx.run_id), ctx.call_id, ctx.attempt, {"text": text}))
    return f"did {text}"


@tool(needs_approval=True)
def gated(ctx: ToolContext, text: str) -> str:
    """Do it once a person has agreed."""
    HAPPENED.append(Effect(str(ctx.run_id), ctx.call_id, ctx.attempt, {"text": text}))
    return f"did {text}"


def make(turns: Sequence[Any], tools: Sequence[Tool] = ()) -> Room:
    """A room like any other, of which a test may have several."""
    model = ScriptedModel(turns)
    agent = Agent(name=f"test_{uuid4().hex[:8]}", model=model, tools=list(tools))
    return Room(agent, model, agent.threads.create(user=SYSTEM))


def acted() -> Run:
    """A run that said something, used a tool, and said something else: all as it should be."""
    turns = [Turn(deltas=("One ", "moment."), calls=[("act", {"text": "this"})]), Turn(deltas=("It is ", "done."))]
    return make(turns, [act]).play()


def allowed() -> Run:
    """A run whose call a person has approved."""
    run = make([Turn(calls=[("gated", {"text": "this"})]), Turn(text="Done.")], [gated]).play()
    approval = only_approval(run)
    approvals.approve(approval, user=SYSTEM, digest=approval.digest)
    return run_until_idle(run)


def waiting() -> Run:
    """A run that waits for a person."""
    return make([Turn(calls=[("gated", {"text": "this"})]), Turn(text="Done.")], [gated]).play()


def falsify(run: Run, change: Callable[[Events], Any]) -> None:
    """Let `change` work on the events of a log, and store what it leaves, numbered anew."""
    events = log(run)
    change(events)
    Record.objects.filter(stream=run.stream_id).delete()
    store(run, [{**event, "seq": seq} for seq, event in enumerate(events)])
    Run.objects.filter(pk=run.pk).update(next_seq=len(events))


def store(run: Run, events: Sequence[dict[str, Any]]) -> None:
    """Write records as they are."""
    Record.objects.bulk_create(
        Record(
            stream_id=run.stream_id,
            seq=event["seq"],
            append_seq=event["seq"],
            data=jsontext.encode(event),
            created_at=timezone.now(),
        )
        for event in events
    )


def place(events: Events, kind: str, nth: int = 0) -> int:
    """Where the nth event of a type stands."""
    return [index for index, event in enumerate(events) if event["type"] == kind][nth]


def found(evidence: Evidence | None = None) -> set[str]:
    """The invariants that the checker finds violated."""
    return {violation.invariant for violation in check_invariants(evidence=evidence)}


def seen(evidence: Evidence | None = None) -> str:
    """All that the checker has seen, as text."""
    return "\n".join(map(str, check_invariants(evidence=evidence)))


def world() -> Evidence:
    """What the tools have really done."""
    return Evidence(effects=list(HAPPENED), acting_tools={"act", "gated"})
