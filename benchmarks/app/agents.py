"""The measured agents."""

from __future__ import annotations

from agentcore import Agent, Limits, tool
from benchmarks import workload
from benchmarks.app.fakes import Stepper, Talker, Weather
from benchmarks.workload import WORKLOADS


@tool
async def weather(city: str) -> dict[str, str | int]:
    """Weather of a city."""
    return workload.weather(city)


@tool(effect="pure")
async def go_on(step: int) -> str:
    """Go on with the next step; a worker may die here too, and nobody need ask what became of the call."""
    return f"step {step} is done"


weather_agents = {
    name: Agent(name=name, model=Weather(one), instructions="Answer.", tools=[weather])
    for name, one in WORKLOADS.items()
}
talker_agent = Agent(name="talker", model=Talker(), instructions="Talk.")
stepper_agent = Agent(
    name="stepper", model=Stepper(), instructions="Go on.", tools=[go_on], limits=Limits(max_steps=10_000)
)
