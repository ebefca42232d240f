"""What PostgreSQL counts: CPU, WAL, flushes, transactions, rows. Nothing here needs more than psycopg."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

Reading = Mapping[str, float]

# A backend publishes its last counters when it ends; an idle one may keep them to itself for ten seconds.
SETTLE_SECONDS = 12.0
PER_DATABASE = (
    "SELECT xact_commit + xact_rollback AS transactions, tup_inserted AS rows_inserted, "
    "tup_updated AS rows_updated, tup_deleted AS rows_deleted FROM pg_stat_database WHERE datname = %s"
)
OTHERS = "SELECT count(*) AS others FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'"
# The counter of flushes moved in PostgreSQL 18.
FLUSHES = {
    True: "SELECT sum(fsyncs) AS wal_flushes FROM pg_stat_io WHERE object = 'wal'",
    False: "SELECT wal_sync AS wal_flushes FROM pg_stat_wal",
}
FULL_PAGES = "SELECT wal_fpi AS wal_full_pages FROM pg_stat_wal"
WAL = "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn) / 1024 AS wal_kb"
PARENT, USED, USED_BY_ENDED = 1, slice(11, 13), slice(13, 15)
MS_PER_TICK = 1000 / os.sysconf("SC_CLK_TCK")


class Meter:
    """Reads nothing: SQLite counts nothing."""

    def settled(self) -> Reading:
        """Read what is published late, once everybody else has left the database."""
        return {}

    def at_once(self) -> Reading:
        """Read what is exact at once, also while others are connected."""
        return {}


class PostgresMeter(Meter):
    """Reads over a connection to another database, which stays open all the while: it costs a run nothing."""

    def __init__(self, connection: Any, database: str) -> None:
        self._connection = connection
        self._database = database
        self._flushes = FLUSHES[connection.info.server_version >= 180000]
        self._postmaster = int(_stat(connection.info.backend_pid)[PARENT])

    def settled(self) -> Reading:
        """Read transactions, rows, WAL flushes and full pages."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while self._row(OTHERS, self._database)["others"] and time.monotonic() < deadline:
            time.sleep(0.02)
        return {**self._row(PER_DATABASE, self._database), **self._row(self._flushes), **self._row(FULL_PAGES)}

    def at_once(self) -> Reading:
        """Read how much WAL there is, and the CPU time of all of the server's processes."""
        return {**self._row(WAL), "postgres_cpu_ms": cpu_ms(self._postmaster)}

    def _row(self, statement: str, *values: object) -> dict[str, float]:
        found = self._connection.execute(statement, values).fetchone()
        return {name: float(value or 0) for name, value in found.items()}


@contextmanager
def meter(url: str) -> Iterator[Meter]:
    """Give what reads the counters of a database and its server, which must be on this machine."""
    if not url.startswith("postgres"):
        yield Meter()
        return
    import psycopg  # noqa: PLC0415 - a SQLite subject need not have it
    from psycopg.rows import dict_row  # noqa: PLC0415

    parts = urlsplit(url)
    elsewhere = urlunsplit(parts._replace(path="/postgres"))
    with psycopg.connect(elsewhere, autocommit=True, row_factory=dict_row) as connection:
        yield PostgresMeter(connection, parts.path.removeprefix("/"))


def per_run(before: Reading, after: Reading, runs: int) -> dict[str, float]:
    """Return what one run added to each counter."""
    return {f"{name}_per_run": (after[name] - before[name]) / runs for name in before}


def cpu_ms(parent: int) -> float:
    """Return the CPU time of a process, of its children and of those that have ended, in ms, of ticks of 10 ms."""
    while True:
        ended = _ms(_stat(parent)[USED_BY_ENDED])
        # One that ends between two looks would be seen twice, or not at all.
        used = sum(_ms(stat[USED]) for stat in _family(parent))
        if _ms(_stat(parent)[USED_BY_ENDED]) == ended:
            return used + ended


def _family(parent: int) -> Iterator[list[str]]:
    yield _stat(parent)
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            stat = _stat(int(directory.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(stat[PARENT]) == parent:
            yield stat


def _ms(ticks: list[str]) -> float:
    return sum(map(int, ticks)) * MS_PER_TICK


def _stat(process: int) -> list[str]:
    # A process's name may have spaces and parentheses; what follows has none.
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
