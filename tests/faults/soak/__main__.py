"""`make soak`: the soak on its own servers; the environment says for how many SOAK_MINUTES and with which SOAK_SEED."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import django

from supportdemo.servers import RedisServer, start_redis
from tests.servers import Servers

ROUND_MINUTES = 10.0


def main() -> int:
    """Soak in rounds of ten minutes, each with the next seed, until one fails; returns the exit status."""
    servers = Servers()
    redis = start_redis(servers.directory)
    try:
        servers.start_postgres()
        os.environ["REDIS_URL"] = redis.url
        os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings.postgres"
        django.setup()
        return _rounds(servers.directory, redis)
    finally:
        redis.stop()
        servers.stop()


def _rounds(directory: Path, redis: RedisServer) -> int:
    from django.core.management import call_command
    from django.db import connection, connections

    from tests.faults.soak.scene import Soak, minutes_asked_for, seed_asked_for
    from tests.stack import Stack

    connection.creation.create_test_db(verbosity=0)
    seed, left = seed_asked_for(), minutes_asked_for(3)
    while True:
        minutes = min(left, ROUND_MINUTES)
        print(f"soak: {minutes:g} minutes, seed={seed}", flush=True)
        place = directory / f"seed-{seed}"
        place.mkdir()
        with Stack(place, redis=start_redis(place, _freed(redis))) as stack:
            report = Soak(stack, seed, minutes).run()
            if report.violations:
                print(stack.tails())
        connections.close_all()
        print(report, flush=True)
        seed, left = seed + 1, left - minutes
        if report.violations or left <= 0:
            return 1 if report.violations else 0
        call_command("flush", interactive=False, verbosity=0)


def _freed(redis: RedisServer) -> int:
    """The port of the first Redis, which this process's settings name; whoever stood there is stopped."""
    redis.stop()
    return redis.port


if __name__ == "__main__":
    sys.exit(main())
