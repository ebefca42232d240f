"""The way in: look at a run, and drive it if it is this process's to drive."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from ..database.outage import is_outage
from ..declaration import registry
from ..declaration.agent import AgentDefinition
from ..exceptions import LeaseLost, UnknownAgent
from ..journal.commit import Moved, NotClaimed
from ..models import Run
from ..values.logextra import log_extra
from . import snapshot
from .drive import Drive, Outcome
from .runtime import Runtime
from .snapshot import Snapshot

logger = logging.getLogger("agentcore.engine")

MOST_LOOKS = 20


@dataclass(frozen=True)
class LetGo:
    """What `advance` has come to; with `last`, the run has ended and no other waits for its turn in the thread."""

    outcome: Outcome
    last: bool = False


async def advance(run_id: UUID, runtime: Runtime) -> LetGo:
    """Claim a run and drive it as far as it goes now; a no-op where there is nothing to do, or it is driven here."""
    if run_id in runtime.driving:
        return LetGo(Outcome.NOTHING)
    runtime.driving.add(run_id)
    try:
        return await _advance(run_id, runtime)
    finally:
        runtime.driving.discard(run_id)


async def _advance(run_id: UUID, runtime: Runtime) -> LetGo:
    trusts_its_look = True
    for _ in range(MOST_LOOKS):
        state = await runtime.together(snapshot.load_many, run_id)
        if state is None or not state.claimable:
            return LetGo(Outcome.NOTHING)
        if state.suspect and not runtime.alone:
            return LetGo(Outcome.SUSPECT)
        definition = runtime.definition or _definition(state.run)
        if definition is None:
            return LetGo(Outcome.OTHER_VERSION)
        try:
            return await _drive(state, definition, runtime, trusts_its_look=trusts_its_look)
        except (NotClaimed, Moved):
            trusts_its_look = False  # its thread may never stand still: the history is read once the run is claimed
            if not await runtime.read(_has_changed, state):
                return LetGo(Outcome.NOTHING)
    return LetGo(Outcome.NOTHING)


def _definition(run: Run) -> AgentDefinition | None:
    """Return the agent that may drive the run; None where this process has only another version of it, or none."""
    try:
        definition = registry.get(run.agent)
    except UnknownAgent:
        return None
    return definition if definition.accepts_version(run.agent_version) else None


def _has_changed(state: Snapshot) -> bool:
    """Whether a run that could not be claimed, or its thread, is not as it was read: it is worth another look then."""
    found = Run.objects.filter(pk=state.run.pk).values_list("attempt", "next_seq", "thread__stream__next_seq")
    return found.first() != (state.run.attempt, state.run.next_seq, state.thread_seq)


async def _drive(state: Snapshot, definition: AgentDefinition, runtime: Runtime, *, trusts_its_look: bool) -> LetGo:
    drive = Drive(state, definition, runtime, trusts_its_look=trusts_its_look)
    about = partial(log_extra, run_id=drive.claim.run_id, attempt=drive.claim.attempt)
    try:
        outcome = await drive.go()
    except LeaseLost:
        outcome = Outcome.LOST
    except Exception as error:
        if not is_outage(error):
            raise
        # The database is away: the lease runs out, and whoever finds the run then takes over.
        logger.warning("dropped: the database did not answer", extra=about("dropped"), exc_info=True)
        outcome = Outcome.LOST
    logger.info("let go: %s", outcome.value, extra=about("let_go"))
    return LetGo(outcome, last=drive.lease.last)
