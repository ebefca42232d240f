"""Driving a run in this process, as a job, a command or an app's own workflow does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync, sync_to_async
from django.db import InterfaceError, OperationalError, close_old_connections

from ..declaration import registry
from ..declaration.context import ContextLoader
from ..declaration.model import AgentModel
from ..engine.drive import Outcome
from ..engine.loop import advance
from ..engine.runtime import Runtime, this_worker
from ..exceptions import Conflict
from ..models import Run
from ..states import RunStatus
from ..values.logextra import log_extra
from . import dispatch, runs, versions

logger = logging.getLogger("agentcore.engine")


async def adrive(run_id: UUID, runtime: Runtime | None = None) -> Outcome:
    """Drive a run until it ends, waits or is given back; then let the next of its thread go on."""
    if runtime is None:
        runtime = Runtime(this_worker())
        try:
            return await adrive(run_id, runtime)
        finally:
            await runtime.aclose()
    try:
        let_go = await advance(run_id, runtime)
    except asyncio.CancelledError:
        # If this worker had claimed it, it has been given back in the middle of a step.
        await asyncio.shield(_pass_on(run_id, Outcome.RELEASED, runtime))
        raise
    if not let_go.last:
        await _pass_on(run_id, let_go.outcome, runtime)
    return let_go.outcome


def drive(run_id: UUID, runtime: Runtime | None = None) -> Outcome:
    """Do what `adrive` does, on this thread and its database connection."""
    return async_to_sync(adrive)(run_id, runtime)


async def aexecute(
    run: Run | UUID | str,
    *,
    user: Any,
    model: AgentModel | None = None,
    context: tuple[ContextLoader, ...] | None = None,
    recent_messages: int | None = None,
) -> Run:
    """Drive a run here, claiming it like any worker; returns it as it stands then.

    `model`, `context` and `recent_messages` replace the agent's own for this drive. A run that
    is ended, waiting or driven elsewhere is left as it is. Raises `NotFound` for a run `user`
    does not see, and `Conflict` for a strict run that was started on another version of its agent.
    Other work on the event loop goes on meanwhile, and no database connection is kept.
    """
    try:
        return await _execute(run, user, model, context, recent_messages)
    finally:
        await sync_to_async(close_old_connections, thread_sensitive=True)()


def execute(
    run: Run | UUID | str,
    *,
    user: Any,
    model: AgentModel | None = None,
    context: tuple[ContextLoader, ...] | None = None,
    recent_messages: int | None = None,
) -> Run:
    """Do what `aexecute` does, on this thread and its database connection, which stays its own."""
    return async_to_sync(_execute)(run, user, model, context, recent_messages)


async def _execute(
    run: Run | UUID | str,
    user: Any,
    model: AgentModel | None,
    context: tuple[ContextLoader, ...] | None,
    recent_messages: int | None,
) -> Run:
    found = await runs.aget(run, user=user)
    definition = registry.get(found.agent)
    if found.status in (RunStatus.PENDING, RunStatus.RUNNING) and not definition.accepts_version(found.agent_version):
        raise Conflict(
            f"The run was started on version {found.agent_version!r} of {found.agent!r} and goes on with no other; "
            f"version {definition.version!r} is here. Drive it where its own version is, or retry it on this one."
        )
    if model is not None:
        definition = replace(definition, model=model)
    if context is not None:
        definition = replace(definition, context=tuple(context))
    if recent_messages is not None:
        definition = replace(definition, recent_messages=recent_messages)
    runtime = Runtime(this_worker(), definition=definition)
    try:
        await adrive(found.pk, runtime)
    finally:
        await runtime.aclose()
    return await runs.aget(found.pk, user=user)


async def _pass_on(run_id: UUID, outcome: Outcome, runtime: Runtime) -> None:
    """Send the hints that are due after a drive, or defer the run; where the database is away, the sweep does it."""
    owed = {Outcome.ENDED: _hint_the_next, Outcome.RELEASED: _hint_again, Outcome.OTHER_VERSION: _defer}.get(outcome)
    if owed is None:
        return
    try:
        await runtime.owed(owed, run_id)
    except (OperationalError, InterfaceError):
        extra = log_extra("owed_later", run_id)
        logger.warning("what was owed for a run is left to the sweep", extra=extra, exc_info=True)


def _hint_the_next(ended: Sequence[UUID]) -> dict[UUID, None]:
    dispatch.hint_next(*ended)
    return {}


def _hint_again(released: Sequence[UUID]) -> dict[UUID, None]:
    due = Run.objects.filter(pk__in=released, status=RunStatus.PENDING, available_at=None)
    for run_id in due.values_list("pk", flat=True):
        dispatch.hint(run_id)
    return {}


def _defer(other_version: Sequence[UUID]) -> dict[UUID, None]:
    for run_id in other_version:
        versions.defer(run_id)
    return {}
