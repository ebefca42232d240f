"""An RQ worker whose parent process talks to the database, as an exception handler of a project's may make it."""

from __future__ import annotations

from typing import Any

from agentcore.jobs.worker import AgentcoreWorker
from agentcore.models import Run


class DirtyWorker(AgentcoreWorker):
    """Queries before each fork and after each job, on one connection."""

    def execute_job(self, job: Any, queue: Any) -> None:
        Run.objects.count()
        super().execute_job(job, queue)
        Run.objects.count()
