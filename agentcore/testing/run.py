"""Drive runs inside a test: no Redis, no worker, the test's own connection."""

from __future__ import annotations

from ..engine.drive import Outcome
from ..engine.runtime import Runtime
from ..models import Run
from ..services import execution

MOST_DRIVES = 100


def run_until_idle(run: Run) -> Run:
    """Drive a run until it ends or waits, and return it fresh.

    Everything happens on the caller's database connection, so it works inside a
    plain Django `TestCase`. Raises `AssertionError` where the run never comes to rest.
    """
    for _ in range(MOST_DRIVES):
        outcome = execution.drive(run.pk, Runtime("run_until_idle", inline=True))
        if outcome is not Outcome.RELEASED:
            run.refresh_from_db()
            return run
    raise AssertionError(f"run {run.pk} was released {MOST_DRIVES} times without coming to rest")
