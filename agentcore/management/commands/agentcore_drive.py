"""`manage.py agentcore_drive`: drive one run alone in this process."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandParser

from ...jobs import execute
from ...jobs.exits import die_with, leave


class Command(BaseCommand):
    """What `agentcore_worker` starts for a run that may have cost a worker its life."""

    help = "Drive one run, alone in this process, until it ends, waits or is given back. SIGTERM gives it back."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the run, and the process to end with."""
        parser.add_argument("run", type=UUID, help="The run's id.")
        parser.add_argument("--parent", type=int, default=None, help="The process whose end ends this one too.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Drive; a person is told why the run was let go."""
        if options["parent"] is None:
            self.stdout.write(execute.execute_run(str(options["run"])))
            return
        die_with(options["parent"])
        execute.execute_run(str(options["run"]))
        leave(0)
