"""After a backup was restored: no claim made since it may write, and calls made since it may have taken effect."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from uuid import UUID

from django.db import transaction

from ..database.again import unit
from ..declaration.tool import LEAVES_NOTHING
from ..engine import transitions
from ..journal import fence, write
from ..journal.commit import Commit, Held, Move
from ..models import Run, Step, ToolCall
from ..states import RunStatus, StepStatus, ToolCallStatus
from ..values import events
from ..values.logextra import log_extra

logger = logging.getLogger("agentcore.recovery")

# More attempts than a run can have had between the backup and its loss.
JUMP = 1000
RESTORED = "restored"
DOUBT = (
    "The call was running when the backup was made that is in force now. Nobody knows whether it took effect. "
    "Do not repeat it."
)


@dataclass(frozen=True)
class Recovered:
    """How many runs were recovered, how many of them given back, and how many calls left to a person."""

    runs: int
    released: int
    doubtful_calls: int


def after_restore() -> Recovered:
    """Void every claim made since the backup, give running runs back, and leave running calls to a person.

    Run it once, before workers and web processes are started on the restored database.
    """
    report = Recovered(0, 0, 0)
    for run_id in Run.objects.live().order_by("pk").values_list("pk", flat=True):
        done = _recover(run_id)
        report = Recovered(
            report.runs + done.runs, report.released + done.released, report.doubtful_calls + done.doubtful_calls
        )
    logger.warning("recovered: %s", report, extra=log_extra("recovered"))
    return report


@unit
def _recover(run_id: UUID) -> Recovered:
    with transaction.atomic():
        held = fence.hold(run_id)
        if held is None:
            return Recovered(0, 0, 0)
        run = Run.objects.get(pk=run_id)
        # A worker that survived may hold the very attempt that the next claim would hand out again.
        since_the_backup = {"dispatched_at": None, "dispatch_count": 0, "version_missing_since": None}
        Run.objects.filter(pk=run_id).update(attempt=run.attempt + JUMP, **since_the_backup)
        calls: list[ToolCall] = []
        if held.status is RunStatus.RUNNING:
            calls = list(run.tool_calls.filter(status=ToolCallStatus.RUNNING).order_by("position"))
            write.record(held, _release(held, run, calls))
    doubtful = [call for call in calls if call.effect not in LEAVES_NOTHING]
    return Recovered(1, held.status is RunStatus.RUNNING, len(doubtful))


def _release(held: Held, run: Run, calls: list[ToolCall]) -> Commit:
    """Return the commit that gives a running run back, and leaves calls that may have taken effect to a person."""
    commit = Commit()
    for step in Step.objects.filter(run=run, status=StepStatus.STARTED):
        commit = commit.and_then(transitions.abandon(step, run.attempt, RESTORED))
    for call in calls:
        if call.effect in LEAVES_NOTHING:
            again = Move(call, ToolCallStatus.RUNNING, {"status": ToolCallStatus.PENDING.value})
            commit = commit.and_then(Commit(moves=[again]))
        else:
            # Also an idempotent one: who knows how long its receiver remembers a key?
            commit = commit.and_then(transitions.unverified(call, DOUBT))
    pending = RunStatus.PENDING
    return commit.and_then(
        Commit(
            events=[events.RunReleased(RESTORED, None)],
            run={"status": pending.value},
            thread_events=[held.changed(pending)],
        )
    )
