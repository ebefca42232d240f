"""B1: agentcore's engine alone, in one process on one event loop; the runs are sent before the clock starts.

`benchmarks.probes.send_and_engine` is the same with the send inside the clock, where the floors and the peers have it.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import connections

from agentcore.engine.runtime import Runtime, this_worker
from agentcore.services import execution
from agentcore.streams import hints
from benchmarks.probes import stored
from benchmarks.subject import main
from benchmarks.workload import Workload


class Engine:
    """Many runs driven by one Runtime, as the concurrent worker drives them."""

    runtime: Runtime
    hints: AbstractAsyncContextManager[None]

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.sent: list[UUID] = []
        self.runs: dict[int, UUID] = {}

    async def prepare(self, numbers: range) -> None:
        """Give each number a run that waits in the database, sent before."""
        if not self.sent:
            self.sent = await sync_to_async(stored.pending)()
            await sync_to_async(connections.close_all)()
        for number in numbers:
            self.runs[number] = self.sent.pop(0)

    async def open(self, in_flight: int) -> None:
        """Start a Runtime, and send hints from this loop, as the concurrent worker does."""
        self.hints = hints.sent_from_this_loop()
        await self.hints.__aenter__()
        self.runtime = Runtime(this_worker(), alone=False, own_threads=True)

    async def run(self, number: int) -> str:
        """Drive one run to its end."""
        outcome = await execution.adrive(self.runs[number], self.runtime)
        # What it said is checked afterwards, where it is stored.
        return self.workload.text if outcome == "ended" else outcome

    async def close(self) -> None:
        """Write what is left, and close this process's connections."""
        await self.runtime.aclose()
        await self.hints.__aexit__(None, None, None)
        await sync_to_async(connections.close_all)()

    async def check(self, numbers: range) -> None:
        """See that all succeeded, and that the deltas are there."""
        await sync_to_async(stored.check)([self.runs[number] for number in numbers], self.workload)
        await sync_to_async(connections.close_all)()


if __name__ == "__main__":
    main("agentcore: engine", Engine)
