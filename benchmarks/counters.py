"""What PostgreSQL counts: transactions, rows, WAL flushes. Nothing here needs more than psycopg."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, fields
from urllib.parse import urlsplit, urlunsplit

# A backend publishes its last counters when it ends; an idle one may keep them to itself for ten seconds.
SETTLE_SECONDS = 12.0
PER_DATABASE = (
    "SELECT xact_commit + xact_rollback, tup_inserted, tup_updated, tup_deleted "
    "FROM pg_stat_database WHERE datname = %s"
)
OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'"
# The WAL counters moved in PostgreSQL 18.
FLUSHES = {
    True: "SELECT sum(fsyncs)::float FROM pg_stat_io WHERE object = 'wal'",
    False: "SELECT wal_sync::float FROM pg_stat_wal",
}


@dataclass(frozen=True)
class Counters:
    """The counters of one database, and of its server's WAL, at one moment."""

    transactions: float
    rows_inserted: float
    rows_updated: float
    rows_deleted: float
    wal_flushes: float
    wal_kb: float


def read(url: str = "") -> Counters | None:
    """Read the counters once everybody else has left the database; None where it is not PostgreSQL."""
    url = url or os.environ["DATABASE_URL"]
    if not url.startswith("postgres"):
        return None
    import psycopg  # noqa: PLC0415 - a SQLite subject need not have it

    parts = urlsplit(url)
    name = parts.path.removeprefix("/")
    with psycopg.connect(urlunsplit(parts._replace(path="/postgres")), autocommit=True) as connection:

        def one(statement: str, *values: object) -> tuple[float, ...]:
            row = connection.execute(statement, values).fetchone()
            assert row is not None, statement
            return row

        deadline = time.monotonic() + SETTLE_SECONDS
        while one(OTHERS, name)[0] and time.monotonic() < deadline:
            time.sleep(0.02)
        flushes = one(FLUSHES[connection.info.server_version >= 180000])
        written = one("SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::float / 1024")
        return Counters(*map(float, one(PER_DATABASE, name)), float(flushes[0] or 0), written[0])


def per_run(before: Counters, after: Counters, runs: int) -> dict[str, float]:
    """Return what one run added to each counter."""
    return {
        f"{field.name}_per_run": (getattr(after, field.name) - getattr(before, field.name)) / runs
        for field in fields(Counters)
    }
