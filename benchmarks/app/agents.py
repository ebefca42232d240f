"""The measured agents."""

from __future__ import annotations

from agentcore import Agent, tool
from benchmarks import w1
from benchmarks.app.fakes import Talker, Weather


@tool
async def weather(city: str) -> str:
    """Weather of a city."""
    return w1.weather(city)


weather_agent = Agent(name="w1", model=Weather(), instructions="Answer.", tools=[weather])
talker_agent = Agent(name="talker", model=Talker(), instructions="Talk.")
