"""Hints: "look at run X" on the RQ queue, which may be lost, doubled or late; and what the runs' rows note of them."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

import django_rq
import redis
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.db import transaction
from django.dispatch import receiver
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq import Queue
from rq.serializers import JSONSerializer

from ..conf import get_settings
from ..database import bulk, dialect
from ..failpoints import failpoint
from ..models import Run
from ..values.ids import uuid7
from ..values.logextra import log_extra

logger = logging.getLogger("agentcore.dispatch")

JOB = "agentcore.jobs.single.execute_run"
_JOB_ID = re.compile(r"run-([0-9a-f]{32})-[0-9a-f]{12}")
# A request must not wait for a dead Redis: the sweep sends the hint again.
PATIENCE = 0.5
MOST_NAMED = 10  # in one line of the log

# Within the range of its column: beyond it, a run that waits for weeks would make the UPDATE of all others fail.
ONE_MORE = "CASE WHEN dispatch_count < 30000 THEN dispatch_count + 1 ELSE 30000 END"

NOTE = """
, locked AS (
    SELECT run.id FROM agentcore_run run JOIN wanted ON wanted.id = run.id ORDER BY run.id{lock}
)
UPDATE agentcore_run SET
    dispatched_at = {clock},
    hint_failed_at = NULL,
    dispatch_count = {one_more}
FROM locked WHERE agentcore_run.id = locked.id
RETURNING agentcore_run.id
"""

NOTE_WHERE_UNCHANGED = """
, locked AS (
    SELECT run.id FROM agentcore_run run JOIN wanted ON wanted.id = run.id ORDER BY run.id{skip_locked}
)
UPDATE agentcore_run SET
    dispatched_at = {clock},
    hint_failed_at = NULL,
    dispatch_count = CASE WHEN wanted.afresh THEN 1 ELSE {one_more} END
FROM wanted JOIN locked ON locked.id = wanted.id
WHERE agentcore_run.id = wanted.id
    AND agentcore_run.attempt = wanted.seen_attempt AND agentcore_run.dispatch_count = wanted.seen_count
RETURNING agentcore_run.id
"""

# All rows get the same time, in whatever order they are written: so a later pass sends their hints in order of id.
NOTE_NOT_SENT = """
, locked AS (
    SELECT run.id FROM agentcore_run run JOIN wanted ON wanted.id = run.id ORDER BY run.id{skip_locked}
)
UPDATE agentcore_run SET
    dispatched_at = NULL,
    hint_failed_at = (SELECT {clock}),
    dispatch_count = 0
FROM locked WHERE agentcore_run.id = locked.id
RETURNING agentcore_run.id
"""

_clients: dict[str, redis.Redis] = {}


def hint(*run_ids: UUID) -> None:
    """Note that hints go out, and send them after the commit; a lost one is sent again by the sweep."""
    if run_ids:
        # By id, as everybody locks rows.
        bulk.execute(_statement(NOTE, dialect.clock()), [(run_id,) for run_id in sorted(set(run_ids))])
        send_hint(*run_ids)


def hint_next(*ended: UUID) -> None:
    """Send a hint for the run that is now first in the queue of each thread in which a run has ended.

    A run that is not queued behind another has had its hint already.
    """
    threads_of = Run.objects.filter(pk__in=ended).values("thread")
    first = Run.objects.filter(thread__in=threads_of, queued=True).ready(dialect.DbNow())
    hint(*first.values_list("pk", flat=True))


def send_hint(*run_ids: UUID) -> None:
    """Send hints after the commit; the caller has already noted them in the rows."""
    # Not a partial: where a robust hook raises, Django looks for its name, and a partial has none.
    transaction.on_commit(lambda: _enqueue(*run_ids), robust=True)


def _enqueue(*run_ids: UUID) -> None:
    failpoint("before_enqueue")
    enqueue(*run_ids)


@dataclass(frozen=True)
class Seen:
    """An orphan as it was read; `afresh` says that its earlier hints were about something else, and do not count."""

    run_id: UUID
    attempt: int
    dispatch_count: int
    afresh: bool


def note_where_unchanged(seen: Sequence[Seen]) -> list[UUID]:
    """Note that a hint goes out for each run that is still as it was read; returns which, in their order.

    A row that is locked at this moment is skipped: somebody deals with it.
    """
    # The count, not the time: SQLite keeps times as text, of more than one precision.
    rows = [(item.run_id, item.attempt, item.dispatch_count, item.afresh) for item in seen]
    extras = (("seen_attempt", "integer"), ("seen_count", "integer"), ("afresh", "boolean"))
    found = bulk.execute(_statement(NOTE_WHERE_UNCHANGED, dialect.clock(), extras), rows)
    noted = {dialect.id_out(row[0]) for row in found}
    return [item.run_id for item in seen if item.run_id in noted]


def note_not_sent(run_ids: Iterable[UUID]) -> None:
    """Note that the hints did not go out; in the next pass, runs whose hints were not tried come before these."""
    bulk.execute(_statement(NOTE_NOT_SENT, dialect.clock()), [(run_id,) for run_id in sorted(run_ids)])


@cache
def _statement(text: str, clock: str, extras: tuple[tuple[str, str], ...] = ()) -> bulk.Statement:
    whole = text.format(
        clock=clock,
        one_more=ONE_MORE,
        lock=dialect.row_lock("run"),
        skip_locked=dialect.row_lock("run", skip_locked=True),
    )
    return bulk.Statement(whole, [bulk.column(Run, "id"), *(bulk.extra(name, kind) for name, kind in extras)])


def enqueue(*run_ids: UUID) -> bool:
    """Send hints in one round trip; returns whether they went out.

    It does not raise where Redis is away or misconfigured. A job carries only the run's id, and RQ keeps no result.
    """
    settings = get_settings()
    try:
        client = _connection(settings.queue)
        queue = Queue(settings.queue, connection=client, serializer=JSONSerializer)
        # Without a pipeline of ours, RQ would send each job in two transactions.
        with client.pipeline() as pipeline:
            for run_id in run_ids:
                queue.enqueue_call(
                    JOB,
                    args=(str(run_id),),
                    timeout=settings.job_timeout,
                    result_ttl=0,
                    failure_ttl=3600,
                    job_id=_new_job_id(run_id),
                    description=f"look at run {run_id}",
                    pipeline=pipeline,
                )
            pipeline.execute()
    except (redis.RedisError, OSError, KeyError, ValueError, ImproperlyConfigured) as error:
        logger.warning(
            "hint not sent: %s; the sweep will send it again",
            type(error).__name__,
            extra=log_extra("hint_lost", ", ".join(map(str, run_ids[:MOST_NAMED])), hints=len(run_ids)),
        )
        return False
    return True


def _new_job_id(run_id: UUID) -> str:
    return f"run-{run_id.hex}-{uuid7().hex[-12:]}"


def run_of_job(job_id: str) -> UUID | None:
    """Return the run that the id of a hint's job names; None for the id of any other job."""
    named = _JOB_ID.fullmatch(job_id)
    return UUID(named[1]) if named else None


def _connection(queue: str) -> redis.Redis:
    """Return the process's client of the queue's Redis."""
    client = _clients.get(queue)
    # Two threads may make a client each; one is kept, and the other has not connected yet.
    return client if client is not None else _clients.setdefault(queue, _impatient(queue))


def _impatient(queue: str) -> redis.Redis:
    """Return a client that gives up quickly, whatever the project's own options are."""
    pool = django_rq.get_connection(queue).connection_pool
    options: dict[str, Any] = {
        **pool.connection_kwargs,
        "socket_timeout": PATIENCE,
        "socket_connect_timeout": PATIENCE,
        "retry": Retry(NoBackoff(), 0),
    }
    return redis.Redis(connection_pool=redis.ConnectionPool(connection_class=pool.connection_class, **options))


def forget() -> None:
    """Close the clients, and make new ones from the settings when they are needed."""
    while _clients:
        _clients.popitem()[1].connection_pool.disconnect()


@receiver(setting_changed, dispatch_uid="agentcore.services.dispatch")
def _settings_changed(*, setting: str, **kwargs: Any) -> None:
    if setting == "RQ_QUEUES":
        forget()
