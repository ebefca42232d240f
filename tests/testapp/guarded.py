"""An agent whose guards note that they were asked, and wait at the place that the prompt names."""

from __future__ import annotations

from asgiref.sync import sync_to_async

from agentcore import Agent, Answer, Guard, ProposedCall, RunContext, ToolContext, tool
from agentcore.models import ToolCall
from agentcore.providers import ModelRequest
from tests.testapp import world
from tests.testapp.scripts import AsksOnce

PLACES = ("before_model", "after_answer", "when_recorded", "before_it_runs")
"""Where a guard is asked, in this order, in a run that makes one call."""
EFFECT = "effect"


@tool
def unsafe_append(ctx: ToolContext, text: str) -> str:
    """Append to the world, once."""
    world.append(ctx.run_id, EFFECT, ctx.attempt)
    return f"appended {text}"


def _at(place: str, about: RunContext) -> None:
    world.append(about.run_id, place, about.attempt)
    if about.prompt == place:
        world.wait_while_held()


def before_model(request: ModelRequest, about: RunContext) -> None:
    _at("before_model", about)


def after_answer(answer: Answer, about: RunContext) -> None:
    _at("after_answer", about)


async def before_tool(call: ProposedCall, about: RunContext) -> None:
    recorded = await ToolCall.objects.filter(call_id=call.call_id).aexists()
    await sync_to_async(_at, thread_sensitive=False)("before_it_runs" if recorded else "when_recorded", about)


guarded = Agent(
    name="guarded",
    model=AsksOnce("unsafe_append"),
    tools=[unsafe_append],
    guards=[Guard(before_model=before_model, after_answer=after_answer, before_tool=before_tool)],
)
