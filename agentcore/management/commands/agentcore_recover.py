"""`manage.py agentcore_recover --after-restore`: put runs in order once a backup has been restored."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ...services import recovery


class Command(BaseCommand):
    """Voids every claim, gives running runs back and leaves the calls that were executing to a person."""

    help = "After restoring a backup, and before starting workers: void old claims, and doubt what was being executed."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--after-restore", action="store_true", help="say that a backup has been restored; nothing is done without"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Recover, and say what was done."""
        if not options["after_restore"]:
            raise CommandError("Say --after-restore. A worker that died needs no command: its runs are taken over.")
        done = recovery.after_restore()
        self.stdout.write(
            f"{done.runs} live runs got new claims; {done.released} of them were running and were given back; "
            f"{done.doubtful_calls} calls may have taken effect and wait for a person."
        )
