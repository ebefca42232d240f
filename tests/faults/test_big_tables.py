"""Many rows: what is asked all the time goes through an index. Plans are judged, not times."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from agentcore.database import bulk
from agentcore.jobs.single import execute_run
from agentcore.models import Run, Thread
from agentcore.services import events as reading
from agentcore.services.sweep import sweep
from agentcore.streams import log
from agentcore.streams.models import Record, Stream
from tests.faults.runs import send, status
from tests.testapp import agents

pytestmark = pytest.mark.django_db(transaction=True)

LONG_LOG = 100_000
OTHER_LOGS, RECORDS_EACH = 1_000, 100
WAITING, RUNNABLE, ENDED = 10_000, 1_000, 2_000

RUNS, RECORDS = Run._meta.db_table, Record._meta.db_table


Asked = list[tuple[str, Any]]
"""Statements, those of `bulk.run` with their parameters."""


@contextmanager
def asked() -> Iterator[Asked]:
    """Every statement of this test's connection meanwhile."""
    found: Asked = []
    real = bulk.run

    def noted(text: str, params: Any) -> Any:
        found.append((text, params))
        return real(text, params)

    with CaptureQueriesContext(connection) as queries, mock.patch.object(bulk, "run", noted):
        yield found
    found += [(query["sql"], None) for query in queries.captured_queries]


def plans(statements: Asked, *tables: str) -> list[str]:
    """How the database answers the statements that name one of the tables, as it says itself."""
    said = []
    for statement, params in statements:
        if not any(f'"{table}"' in statement or f" {table} " in statement for table in tables):
            continue
        if statement.startswith(("INSERT", "EXPLAIN", "SAVEPOINT")):
            continue
        if params is not None:
            rows = bulk.run(f"EXPLAIN {statement}", params)
        else:
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN {'QUERY PLAN ' if connection.vendor == 'sqlite' else ''}{statement}")
                rows = cursor.fetchall()
        said.append("\n".join(str(row[-1]) for row in rows))
    assert said, "nothing was asked"
    return said


def reads_whole(plan: str, table: str) -> bool:
    """Whether a plan goes through every row of a table."""
    if connection.vendor == "postgresql":
        return f"Seq Scan on {table}" in plan
    return any(line.startswith(f"SCAN {table}") and " INDEX " not in line for line in plan.splitlines())


def analyze() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def timed(what: str, do: Callable[[], Any]) -> Any:
    """Do it, and print how long it took: for whoever is curious, no pass mark."""
    began = time.perf_counter()
    try:
        return do()
    finally:
        print(f"{what}: {(time.perf_counter() - began) * 1000:.1f} ms")


# --- a huge log -----------------------------------------------------------------------------------------------------


def fill(streams: Iterable[Stream], count: int) -> None:
    """Append so many records to each of the streams, by one statement."""
    ids = ", ".join(f"('{stream.pk}')" for stream in streams)
    if connection.vendor == "sqlite":
        ids = ids.replace("-", "")
        statement = (
            f"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {count}) "
            f"INSERT INTO {RECORDS} (stream_id, seq, append_seq, data, created_at) "
            f"SELECT s.column1, n.i, n.i, X'7B7D', '2026-01-01 00:00:00' FROM n, (VALUES {ids}) AS s"
        )
    else:
        statement = (
            f"INSERT INTO {RECORDS} (stream_id, seq, append_seq, data, created_at) "
            f"SELECT s.id::uuid, i, i, '{{}}'::bytea, now() "
            f"FROM generate_series(0, {count - 1}) AS i, (VALUES {ids}) AS s (id)"
        )
    with connection.cursor() as cursor:
        cursor.execute(statement)


@pytest.mark.covers("fault:D15")
def test_a_cursor_into_a_huge_log_is_read_through_its_index(make_thread: Callable[..., Any]) -> None:
    huge = log.create("huge", "external")
    others = Stream.objects.bulk_create(Stream(name=f"other {number}") for number in range(OTHER_LOGS))
    fill([huge], LONG_LOG)
    fill(others, RECORDS_EACH)
    analyze()
    middle = LONG_LOG // 2
    cursors = {huge.pk: middle, **{stream.pk: 50 for stream in others[:20]}}
    with asked() as queries:
        page = timed(f"a page out of {LONG_LOG} records", lambda: log.read(huge.pk, middle, 500))
        several = timed("pages of 21 logs", lambda: log.read_batch(cursors, 100))
    assert [entry.seq for entry in page] == list(range(middle + 1, middle + 501))
    assert [len(entries) for entries in several.values()] == [100] + [49] * 20
    for plan in plans(queries, RECORDS):
        assert not reads_whole(plan, RECORDS), plan
        assert "Sort" not in plan.split("Limit")[-1], plan  # within a log the index gives the order


@pytest.mark.covers("fault:D15")
def test_an_append_to_a_huge_log_looks_at_none_of_its_records(make_thread: Callable[..., Any]) -> None:
    run = send(agents.echo, make_thread())
    Record.objects.filter(stream=run.stream_id).delete()
    fill([run.stream], LONG_LOG)
    Run.objects.filter(pk=run.pk).update(next_seq=LONG_LOG)
    analyze()
    with asked() as queries:
        assert timed("a run behind a huge log", lambda: execute_run(str(run.pk))) == "ended"
    looks = [text for text, _ in queries if RECORDS in text and "INSERT" not in text.upper()]
    assert looks == []
    page = reading.read(run, user=run.user, after=LONG_LOG - 1)
    assert page.done and page.events[0]["seq"] == LONG_LOG


# --- many runs ------------------------------------------------------------------------------------------------------


def many_runs(owner: Any) -> None:
    """Ended runs, waiting ones nobody owes a hint, and runnable ones whose hint is overdue; ten in each thread."""
    now = timezone.now()
    kinds = [
        *[{"status": "succeeded", "finished_at": now}] * ENDED,
        *[{"status": "waiting", "poisoned_at": now}] * WAITING,
        *[{"status": "pending", "queued": False, "dispatched_at": now - timedelta(days=1)}] * RUNNABLE,
    ]
    total = len(kinds)
    names = [f"many {number}" for number in range(total + total // 10)]
    streams = Stream.objects.bulk_create([Stream(name=name, sequencer="external") for name in names], batch_size=2000)
    threads = Thread.objects.bulk_create([Thread(owner=owner, stream=stream) for stream in streams[total:]], 2000)
    rows = [
        Run(thread=threads[i // 10], stream=streams[i], number=i % 10, order=i % 10, agent="echo", **kind)
        for i, kind in enumerate(kinds)
    ]
    Run.objects.bulk_create(rows, batch_size=500)
    analyze()


@pytest.mark.longer
@pytest.mark.covers("fault:O11")
def test_among_thousands_of_runs_a_claim_and_a_sweep_go_through_their_indexes(
    make_thread: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = make_thread()
    many_runs(thread.owner)
    monkeypatch.setattr("agentcore.services.dispatch.enqueue", lambda *run_ids: True)
    run = send(agents.side_by_side, thread)
    with asked() as claiming:
        assert timed("a run among thousands", lambda: execute_run(str(run.pk))) == "ended"
    for plan in plans(claiming, RUNS):
        assert not reads_whole(plan, RUNS), plan
    assert status(run) == "succeeded"
    with asked() as sweeping:
        report = timed("a sweep among thousands", sweep)
    assert report.hinted > 0
    for plan in plans(sweeping, RUNS):
        assert not reads_whole(plan, RUNS), plan
    if connection.vendor == "postgresql":  # SQLite's plans do not tell which columns a query asks for
        (due,) = [plan for plan in plans(sweeping, RUNS) if "hint_failed_at" in plan]
        assert "agentcore_run_pending" in due, due


@pytest.mark.covers("fault:O11")
def test_the_sweep_sends_hints_to_the_longest_waiting_first(
    make_thread: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    hinted: list[Any] = []
    monkeypatch.setattr("agentcore.services.dispatch.enqueue", lambda *run_ids: not hinted.extend(run_ids))
    monkeypatch.setattr("agentcore.services.sweep.BATCH", 10)
    runs = [send(agents.side_by_side, make_thread(), str(number)) for number in range(30)]
    hinted.clear()
    Run.objects.update(dispatched_at=None)
    for _ in range(3):
        sweep()
    assert hinted == [run.pk for run in runs]
