"""Fill a fresh database with a user, and with runs that were sent and wait."""

from __future__ import annotations

import sys

from django.contrib.auth import get_user_model
from django.db import connection

from benchmarks.probes import stored
from benchmarks.workload import WORKLOADS, Workload

USERNAME = "watcher"


def main(count: int, workload: Workload) -> None:
    """Make the user once, and send `count` runs of the workload, each in a thread of its own."""
    get_user_model().objects.get_or_create(username=USERNAME)
    for _ in range(count):
        stored.send(stored.new_thread(), workload)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE" if connection.vendor == "postgresql" else "ANALYZE")


if __name__ == "__main__":
    main(int(sys.argv[1]), WORKLOADS[sys.argv[2]])
