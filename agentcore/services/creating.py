"""Making a run: its row, its prompt and its log, in a transaction that holds its thread."""

from __future__ import annotations

from typing import Any

from django.db.models import F

from .. import events
from ..access import SYSTEM, require
from ..definition import AgentDefinition
from ..engine import claim as claims
from ..engine import write
from ..engine.entry import Commit
from ..exceptions import NotFound
from ..models import Message, Run, Thread
from ..states import RunStatus
from ..streams import log
from ..streams.dialect import DbNow
from . import runs


def lock(thread: Thread) -> None:
    """Lock a thread's row: the order in which sends get it is the order of their runs."""
    Thread.objects.filter(pk=thread.pk).update(updated_at=DbNow())


def row(definition: AgentDefinition, thread: Thread, order: int, user: Any) -> Run:
    """Return an unsaved run with the thread's next number; the thread's row is locked by the caller."""
    require(user)
    Thread.objects.filter(pk=thread.pk).update(next_number=F("next_number") + 1)
    number = Thread.objects.values_list("next_number", flat=True).get(pk=thread.pk) - 1
    return Run(
        thread=thread,
        number=number,
        agent=definition.name,
        agent_version=definition.version,
        user=thread.owner if user is SYSTEM else user,
        order=order,
        queued=definition.on_busy != "parallel",
    )


def open_(run: Run, thread: Thread, prompt: Message | None = None) -> None:
    """Save a new run, with the message that opens its turn, open its log and dispatch it."""
    if prompt is not None:
        prompt.save(force_insert=True)
        run.prompt = prompt
    run.stream = log.create(f"run:{run.pk}", sequencer="external")
    run.save(force_insert=True)
    held = claims.hold(run.pk, (RunStatus.PENDING,))
    if held is None:
        raise NotFound
    created = events.RunCreated(
        run=str(run.pk),
        thread=str(thread.pk),
        agent=run.agent,
        agent_version=run.agent_version,
        number=run.number,
        prompt=str(run.prompt_id) if run.prompt_id else None,
        retry_of=str(run.retry_of_id) if run.retry_of_id else None,
    )
    said = [events.ThreadMessage(prompt.to_event())] if prompt else []
    write.record(held, Commit(events=[created], thread_events=[*said, held.changed(RunStatus.PENDING)]))
    runs.hint(run.pk)
