"""`manage.py agentcore_sweep`: give every ownerless run a hint or an end."""

from __future__ import annotations

import logging
import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import Error as DatabaseError
from django.db import close_old_connections

from ...conf import get_settings
from ...services.sweep import sweep

logger = logging.getLogger("agentcore.sweep")


class Command(BaseCommand):
    """One pass, or with `--loop` a pass every few seconds beside stock RQ workers."""

    help = "Give every ownerless run a hint or an end. Safe to run several times at once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--loop", action="store_true", help="keep sweeping until SIGTERM or Ctrl-C")

    def handle(self, *args: Any, **options: Any) -> None:
        """Sweep; when looping, whatever goes wrong is logged, and the next pass tries again."""
        if not options["loop"]:
            self.stdout.write(str(sweep()))
            return
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        while not stop.is_set():
            close_old_connections()
            try:
                sweep()
            except DatabaseError:
                logger.warning("the database did not answer; sweeping again soon", exc_info=True)
            except Exception:
                logger.exception("a pass was broken off; sweeping again soon", extra={"action": "sweep_failed"})
            stop.wait(get_settings().sweep_seconds)
