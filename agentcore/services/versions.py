"""Runs whose agent this process has in another version, or not at all: left to a worker that has it, for a time."""

from __future__ import annotations

import logging
import random
import time
from datetime import timedelta
from uuid import UUID

from django.db import transaction

from ..conf import get_settings
from ..declaration import registry
from ..engine import transitions
from ..journal import fence, write
from ..models import Run
from ..states import RunStatus
from ..values.logextra import log_extra
from . import dispatch

logger = logging.getLogger("agentcore.engine")

# Not longer: a worker that has the version may have come meanwhile.
FIRST_DELAY, LONGEST_DELAY = 2.0, 10.0
NOBODY_HAS_IT = (
    "No worker had this version of the agent in time. Start workers of the release that the run was started on, "
    "or retry it on the current version."
)


def defer(run_id: UUID) -> str:
    """Put off a run that this process may not drive; ends it where no worker could for `VERSION_SECONDS`.

    This uses up no attempt and writes no event. The delay grows with the time for which nobody has had the
    version. That time counts from the first deferral, for the run may have waited long in its queue before.
    Returns what was done: deferred, ended, or nothing.
    """
    with transaction.atomic():
        held = fence.hold(run_id, (RunStatus.PENDING, RunStatus.RUNNING))
        run = Run.objects.filter(pk=run_id).first() if held else None
        if held is None or run is None:
            return "nothing"
        lapsed = run.lease_expires_at is not None and run.lease_expires_at < held.now
        if held.status is RunStatus.RUNNING and not lapsed:
            return "nothing"
        since = run.version_missing_since or held.now
        waited = (held.now - since).total_seconds()
        if waited > get_settings().version_seconds:
            over = transitions.end(held, run, RunStatus.FAILED, code="agent_version_missing", message=NOBODY_HAS_IT)
            write.record(held, over)
            done = "ended"
        else:
            delay = min(max(waited, FIRST_DELAY), LONGEST_DELAY) * random.uniform(0.75, 1.25)  # noqa: S311 - jitter
            # A lapsed one has no due time: the sweep's next hint finds it.
            due = held.now + timedelta(seconds=delay) if held.status is RunStatus.PENDING else None
            Run.objects.filter(pk=run_id).update(version_missing_since=since, available_at=due)
            done = "deferred"
    if done == "ended":
        dispatch.hint_next(run_id)
    extra = log_extra("other_version", run_id, run.attempt)
    logger.info("%s: this process has no version %s of it", done, run.agent_version, extra=extra)
    if done == "deferred":
        _warn(run)
    return done


_warned: dict[tuple[str, str], float] = {}
WARN_SECONDS = 60.0


def _warn(run: Run) -> None:
    """Log that runs wait for an agent that this process lacks, at most once a minute for each agent and version."""
    here = registry.get(run.agent) if run.agent in registry.names() else None
    wanted = (run.agent, run.agent_version if here else "")
    now = time.monotonic()
    if now - _warned.get(wanted, -WARN_SECONDS) < WARN_SECONDS:
        return
    _warned[wanted] = now
    extra = log_extra("agent_missing", run.pk, run.attempt, agent=run.agent)
    if here is None:
        said = "no agent %r is declared in this process; its runs wait for one that has it"
        logger.warning(said, run.agent, extra=extra)
    else:
        logger.warning(
            "agent %r is strict, and here in version %r; runs of version %r wait for a process that has that",
            run.agent,
            here.version,
            run.agent_version,
            extra=extra,
        )
