"""`manage.py agentcore_prune --days 365`: delete the threads that nobody has touched for so long."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ...services import retention


class Command(BaseCommand):
    """Deletes old threads with their runs, logs, approvals and messages."""

    help = "Delete threads untouched for so many days, with everything in them. Live runs and open questions are kept."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--days", type=int, required=True, help="untouched for how many days; at least 1")
        parser.add_argument("--dry-run", action="store_true", help="say how many there are, and delete none")

    def handle(self, *args: Any, **options: Any) -> None:
        """Prune, and say what was done."""
        if options["days"] < 1:
            raise CommandError("--days must be at least 1.")
        older_than = timedelta(days=options["days"])
        if options["dry_run"]:
            self.stdout.write(f"{retention.prunable(older_than).count()} threads would be deleted.")
            return
        done = retention.prune(older_than)
        self.stdout.write(
            f"{done.threads} threads deleted; {done.kept} kept, because the project's own rows need them."
        )
