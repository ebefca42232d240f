"""Making a run: its row, its prompt and its log, in a transaction that holds its thread."""

from __future__ import annotations

from typing import Any

from ..access import SYSTEM, name_of, require
from ..database import bulk, rows
from ..declaration.agent import AgentDefinition
from ..models import Message, Run, Thread
from ..states import RunStatus
from ..streams import log
from ..streams.log import Own
from ..values import events
from . import dispatch


def row(definition: AgentDefinition, thread: Thread, order: int, number: int, user: Any) -> Run:
    """Return an unsaved run in a turn, with a number that the caller has allocated."""
    require(user)
    person = {"user_id": thread.owner_id} if user is SYSTEM else {"user": user}
    return Run(
        thread=thread,
        number=number,
        agent=definition.name,
        agent_version=definition.version,
        order=order,
        queued=definition.on_busy != "parallel",
        started_by=name_of(user),
        **person,
    )


def open_(run: Run, thread: Thread, prompt: Message | None = None) -> None:
    """Save a new run, with the message that opens its turn, open its log and dispatch it.

    Nobody else sees the run before the commit, so its row needs no lock. It is inserted
    with the columns that its first event and its first hint would set.
    """
    if prompt is not None:
        run.prompt = prompt
    said = [events.ThreadMessage(prompt.to_thread_event())] if prompt else []
    news = [*said, events.ThreadRun(str(run.pk), RunStatus.PENDING.value, run.number, run.agent)]
    told = Own(thread.stream_id, [event.encode for event in news])
    run.stream, now, logs = log.prepare_new(f"run:{run.pk}", [_created(run).encode], told)
    run.created_at, run.next_seq = now, 1
    run.dispatched_at, run.dispatch_count = now, 1
    inserts = [rows.inserting([run])]
    if prompt is not None:
        prompt.created_at = now
        inserts.append(rows.inserting([prompt]))
    bulk.together([*inserts, *logs.parts])
    logs.announce()
    dispatch.send_hint(run.pk)


def _created(run: Run) -> events.RunCreated:
    return events.RunCreated(
        run=str(run.pk),
        thread=str(run.thread_id),
        agent=run.agent,
        agent_version=run.agent_version,
        number=run.number,
        order=run.order,
        prompt=str(run.prompt_id) if run.prompt_id else None,
        retry_of=str(run.retry_of_id) if run.retry_of_id else None,
    )
