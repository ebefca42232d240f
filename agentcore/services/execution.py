"""Driving a run in this process, as a job, a command or an app's own workflow does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync

from .. import registry
from ..context import ContextLoader
from ..engine.loop import Outcome, advance
from ..engine.runtime import Runtime, this_worker
from ..models import Run
from ..providers.base import AgentModel
from . import runs
from .twins import twin


def drive(run_id: UUID, runtime: Runtime | None = None) -> Outcome:
    """Drive a run until it ends, waits or is given back; then let the next of its thread go on."""
    outcome: Outcome = async_to_sync(advance)(run_id, runtime or Runtime(this_worker()))
    if outcome is Outcome.ENDED:
        runs.dispatch_next(Run.objects.values_list("thread_id", flat=True).get(pk=run_id))
    if outcome is Outcome.RELEASED and Run.objects.filter(pk=run_id, available_at=None).exists():
        runs.hint(run_id)
    return outcome


def execute(
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
    """
    found = runs.get(run.pk if isinstance(run, Run) else run, user=user)
    definition = registry.get(found.agent)
    if model is not None:
        definition = replace(definition, model=model)
    if context is not None:
        definition = replace(definition, context=tuple(context))
    if recent_messages is not None:
        definition = replace(definition, recent_messages=recent_messages)
    drive(found.pk, Runtime(this_worker(), definition=definition))
    return runs.get(found.pk, user=user)


aexecute = twin(execute)
