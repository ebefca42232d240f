"""The workloads on DBOS Transact: a workflow with a step for each model call and each tool call, in the sync style.

The calls of a round run one after the other. Every step's outcome is a row of its
own and durable when the next begins; the deltas reach a consumer in the process and are not stored. The async style is
slower here: each of its database calls goes through a thread.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dbos import DBOS, SetWorkflowID

from benchmarks.subject import Bare, database_url, main
from benchmarks.workload import PROMPT, TOOL, WORKLOADS, Workload, weather

Message = dict[str, Any]


@DBOS.step()
def ask_model(workload: Workload, history: list[Message]) -> Message:
    """Ask for the calls of the next round, or answer when there is none."""
    turn = 1 + sum("calls" in message for message in history)
    if turn <= workload.rounds:
        asked = workload.asked(turn)
        calls = [{"id": call.id, "name": TOOL, "arguments": call.arguments} for call in asked]
        return {"author": "agent", "calls": calls}
    heard = []
    for word in workload.words:
        heard.append(word)  # the consumer of the stream
    return {"author": "agent", "text": "".join(heard)}


@DBOS.step()
def call_tool(call: dict[str, Any]) -> Message:
    """Run the tool."""
    return {"author": "tool", "id": call["id"], "result": weather(**call["arguments"])}


@DBOS.workflow()
def agent(workload: str, prompt: str) -> str:
    """Go on until the model says something."""
    history: list[Message] = [{"author": "user", "text": prompt}]
    while True:
        said = ask_model(WORKLOADS[workload], history)
        history.append(said)
        if "calls" not in said:
            text: str = said["text"]
            return text
        history += [call_tool(call) for call in said["calls"]]


class DbosSteps(Bare):
    """Workflows started in place, in a thread each."""

    threads: ThreadPoolExecutor

    async def open(self, in_flight: int) -> None:
        """Launch DBOS on the database."""
        logging.disable(logging.WARNING)
        self.threads = ThreadPoolExecutor(in_flight)
        await asyncio.to_thread(self._launch)

    def _launch(self) -> None:
        DBOS(
            config={
                "name": "benchmarks",
                "system_database_url": database_url(),
                "log_level": "ERROR",
                "application_version": "1",
                "run_admin_server": False,
            }
        )
        DBOS.launch()

    async def run(self, number: int) -> str:
        """Run one workflow under an id of its own."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, self._run, number)

    def _run(self, number: int) -> str:
        with SetWorkflowID(f"run-{number}"):
            text: str = agent(self.workload.name, PROMPT)
            return text

    async def close(self) -> None:
        """Shut DBOS down."""
        await asyncio.to_thread(DBOS.destroy)
        self.threads.shutdown()


if __name__ == "__main__":
    main("DBOS: sync steps", DbosSteps)
