"""What a thread gets: a message, a run, or a run with the message it answers; on PostgreSQL by one statement.

Whoever adds it has read which turn and which number come next. The statement locks the rows of the thread and
of its log, and writes if that is still so: then nobody has added a run since. All that it writes joins the
thread's row as what a commit writes joins its run's, by the same parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS, connection, transaction
from django.db.models import Model

from ..access import SYSTEM, name_of, require
from ..database import bulk, dialect, rows
from ..declaration.agent import AgentDefinition
from ..exceptions import NotFound
from ..journal import parts, sqlite
from ..journal.batch import columns, seconds
from ..models import Message, Run, Thread
from ..states import RunStatus
from ..streams import log
from ..streams.models import Sequencer, Stream
from ..values import events
from ..values.clock import NOW
from ..values.holes import Holed
from . import dispatch, places

# Locks the thread, then its log, and allocates a turn and a number. The log of a run begins with one record.
PLACING = """
UPDATE agentcore_thread SET
    next_order = agentcore_thread.next_order + held.turns,
    next_number = agentcore_thread.next_number + held.runs,
    updated_at = {clock}
FROM (
    SELECT wanted.* FROM wanted
        JOIN agentcore_thread thread ON thread.id = wanted.id
        JOIN agentcore_streams_stream stream ON stream.id = thread.stream_id
    WHERE thread.removal_due_at IS NULL
        AND thread.next_order = wanted.seen_order AND thread.next_number = wanted.seen_number
        AND stream.sequencer = 'own' AND stream.closed_at IS NULL{lock}
) AS held
WHERE agentcore_thread.id = held.id
RETURNING agentcore_thread.id, 1 AS next_seq, 0 AS next_step_order, NULL AS cancel_requested_at, {clock} AS now
"""

STATEMENT = """
WITH wanted AS ({wanted}),
fenced AS ({placing}),
shares AS ({shares}),
told AS ({telling}),
{new},
records AS ({records})
SELECT told.next_seq, fenced.now FROM fenced CROSS JOIN told
"""

WANTED = (
    *(bulk.an_id("id"), bulk.an_id("thread_stream")),
    *(bulk.extra(name, "integer") for name in ("seen_order", "seen_number", "turns", "runs", "tells")),
)
_SHARES, _TELLING = bulk.Statement(parts.SHARES, WANTED), bulk.Statement(parts.TELLING, WANTED)

Row = tuple[Any, ...]
Logs = list[tuple[UUID, list[Holed]]]


@dataclass(frozen=True)
class Entry:
    """What is added to a thread: a message that opens a turn, a run, or both; a retry joins the turn of its run."""

    thread: Thread
    message: Message | None = None
    run: Run | None = None
    opens_turn: bool = True

    @property
    def new(self) -> list[Message | Run | Stream]:
        """The rows to insert."""
        return [row for row in (self.message, self.run, self.run and self.run.stream) if row is not None]

    def logs(self) -> Logs:
        """Give the rows their places, which come next as the thread was read, and return what each log is to say.

        That is first the log of the thread, then that of the run.
        """
        thread, message, run = self.thread, self.message, self.run
        told: list[events.Event] = []
        logs = [(thread.stream_id, told)]
        if message:
            message.order = thread.next_order
            told.append(events.ThreadMessage(message.to_thread_event()))
        if run:
            run.order, run.number = thread.next_order if self.opens_turn else run.order, thread.next_number
            told.append(events.ThreadRun(str(run.pk), RunStatus.PENDING.value, run.number, run.agent))
            logs.append((run.stream_id, [_created(run)]))
        return [(stream_id, [event.holed() for event in said]) for stream_id, said in logs]


def row(definition: AgentDefinition, thread: Thread, user: Any) -> Run:
    """Return an unsaved run with its log, as its first event and its first hint would leave them."""
    require(user)
    run = rows.new(
        Run,
        agent=definition.name,
        agent_version=definition.version,
        queued=definition.on_busy != "parallel",
        user_id=thread.owner_id,
        started_by=name_of(user),
        next_seq=1,
        dispatched_at=NOW,
        dispatch_count=1,
    )
    run.thread = thread
    run.stream = rows.new(Stream, name=f"run:{run.pk}", sequencer=Sequencer.EXTERNAL, created_at=NOW)
    if user is not SYSTEM:
        run.user = user
    return run


def whole() -> AbstractContextManager[Any]:
    """Return the transaction to add in: none where the statement is one, a savepoint within the caller's."""
    alone = connection.vendor == "postgresql" and connection.get_autocommit()
    return nullcontext() if alone else transaction.atomic()


def add(entry: Entry) -> None:
    """Write an entry, announce it and dispatch its run, in `whole` or in a transaction that holds the thread.

    Raises `NotFound` where the thread has been deleted since it was read.
    """
    if _added(entry):
        return
    with transaction.atomic(savepoint=False):
        places.hold(entry.thread)
        if not _added(entry):
            raise log.refusal(entry.thread.stream_id) or NotFound


def _added(entry: Entry) -> bool:
    """Write an entry if its thread is as it was read."""
    thread, run, logs, new = entry.thread, entry.run, entry.logs(), entry.new
    turns, numbers, told = int(entry.opens_turn), int(run is not None), len(logs[0][1])
    wanted = (thread.pk, thread.stream_id, thread.next_order, thread.next_number, turns, numbers, told)
    execute = _on_postgres if connection.vendor == "postgresql" else _on_sqlite
    given = execute(wanted, new, _records(thread, logs))
    if not given:
        return False
    ((end, now),) = given
    for row in new:
        row.created_at, row._state.adding, row._state.db = now, False, DEFAULT_DB_ALIAS
    thread.next_order, thread.next_number = thread.next_order + turns, thread.next_number + numbers
    log.announce(
        [
            log.Append(stream_id, first, [text.filled(seq, now) for seq, text in enumerate(texts, first)])
            for first, (stream_id, texts) in zip((end - told, 0), logs, strict=False)
        ]
    )
    if run:
        run.dispatched_at = now
        dispatch.send_hint(run.pk)
    return True


def _records(thread: Thread, logs: Logs) -> list[Row]:
    """Return the rows of `parts.recording`; no event of a new run or message tells of a place or a later time."""
    return [
        (thread.pk, stream_id, stream_id == thread.stream_id, len(texts) - number, len(texts), 0, None, item.text)
        for stream_id, texts in logs
        for number, item in enumerate(texts)
    ]


def _on_postgres(wanted: Row, new: Sequence[Model], records: list[Row]) -> list[Row]:
    clock = dialect.clock()
    inserts = [parts.inserting(type(row)).json([_values(row, wanted[0])]) for row in new]
    text = _statement(tuple(map(type, new)), clock)
    return bulk.run(text, [_placing(clock).json([wanted]), *inserts, parts.recording().json(records)])


@cache
def _statement(models: tuple[type[Model], ...], clock: str) -> str:
    new = [f"new_{number} AS ({bulk.with_rows(parts.inserting(model))})" for number, model in enumerate(models)]
    return STATEMENT.format(
        wanted=_placing(clock).query(),
        placing=_placing(clock).text,
        shares=parts.SHARES,
        telling=parts.TELLING,
        new=",\n".join(new),
        records=bulk.with_rows(parts.recording()),
    )


def _on_sqlite(wanted: Row, new: Sequence[Model], records: list[Row]) -> list[Row]:
    """Do the same step by step, for there is one writer."""
    steps = sqlite.Steps()
    placed = steps.keep("fenced", sqlite.FENCED, steps.run(_placing(dialect.clock()), [wanted]))
    if not placed:
        return []
    for row in new:
        steps.run(parts.inserting(type(row)), [_values(row, wanted[0])])
    steps.keep("shares", sqlite.SHARES, steps.run(_SHARES, [wanted]))
    ((_, end),) = steps.keep("told", sqlite.TOLD, steps.run(_TELLING, [wanted]))
    steps.run(parts.recording(), records)
    return [(end, dialect.time_out(placed[0][-1]))]


@cache
def _placing(clock: str) -> bulk.Statement:
    return bulk.Statement(PLACING.format(clock=clock, lock=dialect.row_lock("thread, stream")), WANTED)


def _values(row: Model, thread_id: UUID) -> Row:
    return thread_id, *(seconds(getattr(row, name)) for name in columns(type(row)))


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
