"""What PostgreSQL tells about its own connections."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connections, router

from ....models import Run

_IDLE = (
    "SELECT pid, EXTRACT(EPOCH FROM clock_timestamp() - state_change), query FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%%' "
    "AND clock_timestamp() - state_change > %s * interval '1 second' ORDER BY pid"
)


@dataclass(frozen=True)
class Backend:
    """A connection whose transaction is open, and its last statement."""

    pid: int
    seconds: float
    query: str

    def __str__(self) -> str:
        return f"backend {self.pid} is idle in a transaction for {self.seconds:.1f} s, after {self.query[:80]!r}"


def forgotten_transactions(seconds: float) -> list[Backend]:
    """Return the connections that have sat in an open transaction for so long; none on SQLite, which has none."""
    connection = connections[router.db_for_read(Run)]
    if connection.vendor != "postgresql":
        return []
    with connection.cursor() as cursor:
        cursor.execute(_IDLE, [seconds])
        return [Backend(pid, float(idle), query) for pid, idle, query in cursor.fetchall()]
