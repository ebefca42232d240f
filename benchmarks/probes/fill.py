"""Fill a database with what rests in it: runs that wait for a person, or the events of runs long ended."""

from __future__ import annotations

from datetime import timedelta

from django.db import connection
from django.utils import timezone

from agentcore.models import Approval, Run, Step, Thread, ToolCall
from agentcore.streams.models import Record, Sequencer, Stream
from agentcore.values import jsontext

AT_ONCE = 1000
EVENTS_PER_RUN = 1000
ARGUMENTS = '{"amount":100}'
# Ids below every id of now, as those of old runs are, and in their order.
OLD_STREAM = "(lpad(to_hex(number), 12, '0') || '70008000000000000000')::uuid"
DELTA = (
    """convert_to(format('{"v":1,"seq":%%s,"type":"text.delta","ts":"2026-01-01T00:00:00.000Z","""
    """"step":1,"text":"some words of an answer "}', seq), 'UTF8')"""
)


def approvals(count: int) -> None:
    """Add runs that wait, each in a thread of its own, for a decision that is due in a week."""
    for _ in range(0, count, AT_ONCE):
        _waiting_runs(AT_ONCE)
    _analyze()


def _waiting_runs(count: int) -> None:
    now = timezone.now()
    threads = [Thread(stream=Stream(name=""), next_order=1, next_number=2) for _ in range(count)]
    runs = [
        Run(
            thread=thread,
            stream=Stream(name="", sequencer=Sequencer.EXTERNAL),
            number=1,
            order=0,
            agent="w1",
            agent_version="1",
            status="waiting",
            attempt=1,
            started_at=now,
        )
        for thread in threads
    ]
    for prefix, owners in (("thread", threads), ("run", runs)):
        for owner in owners:
            owner.stream.name = f"{prefix}:{owner.pk}"
    steps = [Step(run=run, number=1, kind="model", status="finished", attempt=1, started_at=now) for run in runs]
    digest = jsontext.digest(ARGUMENTS)
    calls = [
        ToolCall(
            run=step.run,
            step=step,
            position=0,
            call_id="call_1",
            name="refund",
            arguments=ARGUMENTS,
            digest=digest,
            effect="unsafe",
            status="waiting",
        )
        for step in steps
    ]
    asked = [
        Approval(
            run=call.run,
            tool_call=call,
            arguments=ARGUMENTS,
            digest=digest,
            requested_at=now,
            expires_at=now + timedelta(days=7),
        )
        for call in calls
    ]
    Stream.objects.bulk_create([owner.stream for owner in (*threads, *runs)])
    for model, items in ((Thread, threads), (Run, runs), (Step, steps), (ToolCall, calls), (Approval, asked)):
        model._default_manager.bulk_create(items)


def events(count: int) -> None:
    """Add the events of old runs, a thousand each, on the server; PostgreSQL only."""
    streams = max(1, count // EVENTS_PER_RUN)
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute(
            f"INSERT INTO {Stream._meta.db_table} (id, name, content_type, sequencer, next_seq, created_at) "
            f"SELECT {OLD_STREAM}, 'old:' || number, 'application/json', 'external', %s, now() "
            "FROM generate_series(1, %s) number",
            [EVENTS_PER_RUN, streams],
        )
        # The check of the foreign key, row by row, would take longer than all the rest.
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(
            f"INSERT INTO {Record._meta.db_table} (stream_id, seq, append_seq, data, created_at) "
            f"SELECT {OLD_STREAM}, seq, seq, {DELTA}, now() "
            "FROM generate_series(1, %s) number, generate_series(0, %s) seq",
            [streams, EVENTS_PER_RUN - 1],
        )
        cursor.execute("SET session_replication_role = origin")
    _analyze()


def _analyze() -> None:
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE" if connection.vendor == "postgresql" else "ANALYZE")
        if connection.vendor == "postgresql":
            cursor.execute("CHECKPOINT")
