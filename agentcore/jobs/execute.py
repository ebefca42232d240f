"""The one RQ job of agentcore: look at a run."""

from __future__ import annotations

from uuid import UUID

from django.db import close_old_connections, connections
from rq.timeouts import BaseTimeoutException

from ..engine.runtime import Runtime, this_worker
from ..failpoints import failpoint
from ..services import execution
from ..streams import hints

FLUSH_SECONDS = 1.0


def execute_run(run_id: str) -> str:
    """Drive the run as far as it goes now, and say why it was let go; a no-op where there is nothing to do.

    RQ forks for every job: a connection inherited from the parent is closed first,
    and hints still on their way are sent before the process goes. RQ's own deadline
    is no failure of the run: it leaves here, and the run is taken over.
    """
    connections.close_all()
    failpoint("job_entry")
    try:
        return execution.drive(UUID(run_id), Runtime(this_worker(), gives_up_on=(BaseTimeoutException,))).value
    finally:
        close_old_connections()
        hints.flush(FLUSH_SECONDS)
