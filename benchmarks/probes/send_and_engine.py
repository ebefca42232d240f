"""B1: the send and the engine together, in one process: what the floors and the peers have inside their clock."""

from __future__ import annotations

from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import connections

from agentcore.models import Thread
from benchmarks.probes import stored
from benchmarks.probes.engine import Engine
from benchmarks.subject import main
from benchmarks.workload import Workload


class SendAndEngine(Engine):
    """Sends a run, and drives it to its end."""

    def __init__(self, workload: Workload) -> None:
        super().__init__(workload)
        self.threads: dict[int, Thread] = {}

    async def prepare(self, numbers: range) -> None:
        """Make a thread for each number."""
        await sync_to_async(self._make_threads)(numbers)

    def _make_threads(self, numbers: range) -> None:
        for number in numbers:
            self.threads[number] = stored.new_thread()
        connections.close_all()

    async def run(self, number: int) -> str:
        """Send, then drive."""
        self.runs[number] = await sync_to_async(self._send)(number)
        return await super().run(number)

    def _send(self, number: int) -> UUID:
        return stored.send(self.threads[number], self.workload).pk


if __name__ == "__main__":
    main("agentcore: send + engine", SendAndEngine)
