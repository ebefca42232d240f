"""Driving a run in this process, as a job, a command or an app's own workflow does."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync, sync_to_async
from django.db import close_old_connections

from .. import registry
from ..context import ContextLoader
from ..engine.loop import Outcome, advance
from ..engine.runtime import Runtime, this_worker
from ..models import Run
from ..providers.base import AgentModel
from ..states import RunStatus
from . import runs, versions


async def adrive(run_id: UUID, runtime: Runtime | None = None) -> Outcome:
    """Drive a run until it ends, waits or is given back; then let the next of its thread go on."""
    if runtime is None:
        runtime = Runtime(this_worker())
        try:
            return await adrive(run_id, runtime)
        finally:
            await runtime.aclose()
    try:
        outcome = await advance(run_id, runtime)
    except asyncio.CancelledError:
        # It was given back in the middle of a step, if it was ours.
        await asyncio.shield(runtime.read(_pass_on, run_id, Outcome.RELEASED))
        raise
    if outcome in _OWED:
        await runtime.read(_pass_on, run_id, outcome)
    return outcome


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

    What is given replaces the agent's own model, context loaders and history length
    for this drive. A run that is ended, waiting or driven elsewhere is left alone.
    Other work goes on meanwhile, and no database connection is kept.
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
    found = await runs.aget(run.pk if isinstance(run, Run) else run, user=user)
    definition = registry.get(found.agent)
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


_OWED = (Outcome.ENDED, Outcome.RELEASED, Outcome.OTHER_VERSION)


def _pass_on(run_id: UUID, outcome: Outcome) -> None:
    """Do what is owed for a run that was let go: a hint for the next run of the thread, or for this one again."""
    if outcome is Outcome.ENDED:
        runs.dispatch_next(Run.objects.values_list("thread_id", flat=True).get(pk=run_id))
    elif outcome is Outcome.OTHER_VERSION:
        versions.defer(run_id)
    elif Run.objects.filter(pk=run_id, status=RunStatus.PENDING, available_at=None).exists():
        runs.hint(run_id)
