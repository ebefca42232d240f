"""The measured agents."""

from __future__ import annotations

from agentcore import Agent, Limits, tool
from benchmarks import w1
from benchmarks.app.fakes import Stepper, Talker, Weather


@tool
async def weather(city: str) -> str:
    """Weather of a city."""
    return w1.weather(city)


@tool(effect="pure")
async def go_on(step: int) -> str:
    """Go on with the next step; a worker may die here too, and nobody need ask what became of the call."""
    return f"step {step} is done"


weather_agent = Agent(name="w1", model=Weather(), instructions="Answer.", tools=[weather])
talker_agent = Agent(name="talker", model=Talker(), instructions="Talk.")
stepper_agent = Agent(
    name="stepper", model=Stepper(), instructions="Go on.", tools=[go_on], limits=Limits(max_steps=10_000)
)
