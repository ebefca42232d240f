"""`manage.py agentcore_sweep`: give every ownerless run a hint or an end."""

from __future__ import annotations

import contextlib
import signal
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from ...engine.runtime import this_worker
from ...jobs.sweeper import Sweeper
from ...models import SweepLease
from ...services.sweep import interval, sweep


class Command(BaseCommand):
    """One pass, or with `--loop` a pass every few seconds beside stock RQ workers."""

    help = "Give every ownerless run a hint or an end. Safe to run several times at once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--loop", action="store_true", help="keep sweeping until SIGTERM or Ctrl-C")

    def handle(self, *args: Any, **options: Any) -> None:
        """Sweep once, whoever else does; or, looping, whenever no other sweeper does."""
        if not options["loop"]:
            self.stdout.write(str(sweep()))
            if holder := SweepLease.objects.held_by():
                self.stdout.write(f"{holder} sweeps every few seconds.")
            return
        name = this_worker()
        sweeper = Sweeper(name)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, sweeper.stop)
        if options["verbosity"]:
            with contextlib.suppress(OSError):  # a full disk costs a line and no pass
                self.stdout.write(
                    f"{name} sweeps every {interval():g} s, while nobody else does. SIGTERM or Ctrl-C ends it."
                )
                self.stdout.flush()
        sweeper.loop()
