"""`manage.py agentcore_worker`: drive many runs at a time in this process, and sweep."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from ...conf import get_settings
from ...declaration import registry
from ...engine.runtime import this_worker
from ...jobs import concurrent, forked
from ...values.logextra import log_extra

logger = logging.getLogger("agentcore.jobs")

FALLEN_STATUS = 1


class Command(BaseCommand):
    """The worker to run in production; start more of them to scale out."""

    help = "Drive runs, many at a time, and sweep. SIGTERM drains; a second one ends at once."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take how many runs at a time, and the queue."""
        parser.add_argument(
            "--concurrency",
            type=int,
            default=concurrent.DEFAULT_CONCURRENCY,
            help="How many runs at a time (default: %(default)s).",
        )
        parser.add_argument("--queue", default=None, help="The queue in RQ_QUEUES (default: AGENTCORE['QUEUE']).")
        parser.add_argument(
            "--name", default=None, help="The worker's name on RQ's pages (default: host, pid, random)."
        )
        parser.add_argument("--burst", action="store_true", help="End when the queue is empty.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Work until told to stop; the process ends here, whatever its threads are doing."""
        if options["concurrency"] < 1:
            raise CommandError("--concurrency must be at least 1.")
        announced = get_settings().queue
        queue = options["queue"] or announced
        if queue not in getattr(settings, "RQ_QUEUES", {}):
            raise CommandError(f"There is no queue {queue!r} in RQ_QUEUES.")
        if queue != announced:
            self.stderr.write(f"This worker listens to {queue!r}, but runs are announced on {announced!r}.")
        worker = concurrent.build(queue, concurrency=options["concurrency"], name=options["name"])
        if options["verbosity"]:
            with contextlib.suppress(OSError):  # a full disk costs lines and no run
                self.stdout.write(greeting(worker.name, queue, options["concurrency"]))
                self.stdout.flush()
        try:
            worker.work(burst=options["burst"])
            status = worker.exit_status
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
        except BaseException:
            # Its runs are not handed over: whatever broke the loop may be in one of them. See `forked`.
            logger.exception("the worker has fallen", extra=log_extra("fallen"))
            status = FALLEN_STATUS
        forked.remove_socket()
        forked.leave(status)


def greeting(name: str, queue: str, concurrency: int) -> str:
    """Return what a worker says of itself as it starts, to a terminal or to the log of its supervisor."""
    agents = ", ".join(registry.names()) or "none. Declare one in the agents.py of an installed app"
    return (
        f"Worker {this_worker()} ({name} on RQ's pages) drives up to {concurrency} runs at a time "
        f"from the queue {queue!r}, and sweeps.\n"
        f"Agents: {agents}.\n"
        "SIGTERM or Ctrl-C drains: runs are given back at their next step boundary. A second one ends it at once."
    )
