"""`manage.py agentcore_drive`: drive one run alone in this process."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandParser

from ...jobs.single import execute_run


class Command(BaseCommand):
    """What a worker does with a run that may have cost another its life, by hand."""

    help = "Drive one run, alone in this process, until it ends, waits or is given back. SIGTERM gives it back."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the run."""
        parser.add_argument("run", type=UUID, help="The run's id.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Drive; a person is told why the run was let go."""
        self.stdout.write(execute_run(str(options["run"])))
