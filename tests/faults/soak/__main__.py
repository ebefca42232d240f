"""`make soak`: the soak on its own servers; the environment says for how many SOAK_MINUTES and with which SOAK_SEED."""

from __future__ import annotations

import os
import sys

import django

from supportdemo.servers import start_redis
from tests.servers import Servers


def main() -> int:
    """Soak, print what happened, and return the exit status."""
    servers = Servers()
    redis = start_redis(servers.directory)
    try:
        servers.start_postgres()
        os.environ["REDIS_URL"] = redis.url
        os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings.postgres"
        django.setup()
        from django.db import connection, connections

        from tests.faults.soak.scene import Soak, minutes_asked_for, seed_asked_for
        from tests.stack import Stack

        connection.creation.create_test_db(verbosity=0)
        seed, minutes = seed_asked_for(), minutes_asked_for(3)
        print(f"soak: {minutes:g} minutes, seed={seed}", flush=True)
        with Stack(servers.directory, redis=redis) as stack:
            report = Soak(stack, seed, minutes).run()
            if report.violations:
                print(stack.tails())
        connections.close_all()
    finally:
        redis.stop()
        servers.stop()
    print(report)
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
