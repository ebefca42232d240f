"""The one RQ job of agentcore: look at a run."""

from __future__ import annotations

from uuid import UUID

from django.db import close_old_connections, connections

from ..failpoints import failpoint
from ..streams import hints
from . import alone

FLUSH_SECONDS = 1.0


def execute_run(run_id: str) -> str:
    """Drive the run as far as it goes now, and say why it was let go; a no-op where there is nothing to do.

    RQ forks for every job: a connection inherited from the parent is closed first,
    and hints still on their way are sent before the process goes.
    """
    connections.close_all()
    failpoint("job_entry")
    try:
        return alone.drive(UUID(run_id)).value
    finally:
        close_old_connections()
        hints.flush(FLUSH_SECONDS)
