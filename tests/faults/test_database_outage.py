"""A database that is away, full, read-only or out of connections: late, said so, and nothing lost or half done."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psutil
import pytest
from django.contrib.auth.models import AbstractUser
from django.db import DatabaseError, InterfaceError, connection, connections, transaction

from agentcore.models import Message, Run, Thread
from agentcore.streams.models import Record
from tests.faults import postgres
from tests.faults.browser import Answer, Browser
from tests.faults.openings import listening
from tests.faults.runs import LONG, assert_counted_on, assert_log_is_whole, events, send, status
from tests.stack import Stack, Web, wait_for
from tests.testapp import agents

RUNS = 4


def ask_again(look: Callable[[], Any]) -> Callable[[], Any]:
    """Let a look at the rows survive an outage: it is repeated over a new connection."""

    def patient() -> Any:
        try:
            return look()
        except (DatabaseError, InterfaceError):
            connections.close_all()
            return None

    return patient


def pieces(runs: list[Run]) -> list[int]:
    """How many pieces of text each run has said."""
    return [sum(event["type"] == "text.delta" for event in events(run)) for run in runs]


def hear_more(runs: list[Run]) -> None:
    """Wait until every run has said more than it had when this was asked."""
    before = wait_for(ask_again(lambda: pieces(runs)), LONG, "the database to answer")

    def all_said_more() -> bool:
        return all(now > then for now, then in zip(pieces(runs), before, strict=True))

    wait_for(ask_again(all_said_more), LONG, "every run to say more")


def statuses(runs: list[Run]) -> set[str]:
    return {status(run) for run in runs}


def assert_all_succeeded_in_order(runs: list[Run]) -> None:
    wait_for(ask_again(lambda: statuses(runs) == {"succeeded"}), 2 * LONG, "every run to succeed")
    for run in runs:
        assert_log_is_whole(run)
        assert_counted_on(run)


@pytest.mark.postgres
@pytest.mark.longer
@pytest.mark.covers("fault:D1", "promise:P1", "promise:P7")
def test_runs_survive_a_database_that_crashes_twice_in_the_middle_of_them(
    stack: Stack, make_thread: Callable[..., Any]
) -> None:
    stack.hold_tools()  # the runs speak on until they are let go, so that the second crash too is in the middle of them
    runs = [send(agents.counter, make_thread("counter")) for _ in range(2)]
    processes = [stack.sweeper(), stack.worker(), stack.worker()]
    for _ in range(2):
        hear_more(runs)
        postgres.restart()
    hear_more(runs)
    stack.release_tools()
    assert_all_succeeded_in_order(runs)
    assert all(process.alive for process in processes)


@pytest.mark.postgres
@pytest.mark.covers("fault:D2", "promise:P1")
def test_runs_survive_the_end_of_every_session_in_the_middle_of_them(
    stack: Stack, make_thread: Callable[..., Any]
) -> None:
    stack.hold_tools()  # the runs speak on until they are let go
    runs = [send(agents.counter, make_thread("counter")) for _ in range(2)]
    processes = [stack.sweeper(), stack.worker(), stack.worker()]
    for _ in range(2):
        hear_more(runs)  # over sessions that are newer than the last round
        wait_for(postgres.terminate_others, LONG, "a session to end")
    hear_more(runs)
    stack.release_tools()
    assert_all_succeeded_in_order(runs)
    assert all(process.alive for process in processes)


@pytest.mark.own_workers
@pytest.mark.postgres
@pytest.mark.covers("fault:D2")
def test_a_web_process_serves_the_request_after_the_one_that_lost_its_session(
    stack: Stack, thread: Thread, user: AbstractUser
) -> None:
    browser = Browser.of(stack.web().url, user)
    with ThreadPoolExecutor(1) as elsewhere:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {Run._meta.db_table} IN ACCESS EXCLUSIVE MODE")
            cut_off = elsewhere.submit(browser.send, thread, "one", key="once")
            wait_for(postgres.waiting_for_a_lock, 10, "the request to be in the middle of its transaction")
            assert postgres.terminate_others() > 0
        assert_asked_to_come_back(cut_off.result())
    assert browser.send(thread, "one", key="once").status == 201
    assert Run.objects.count() == 1


@pytest.mark.postgres
@pytest.mark.longer
@pytest.mark.covers("fault:D6", "promise:P1")
def test_out_of_connections_the_web_says_when_to_come_back_and_no_run_fails(
    stack: Stack, make_thread: Callable[..., Any], user: AbstractUser
) -> None:
    browser, thread = Browser.of(stack.web().url, user), make_thread()
    sweeper, worker = stack.sweeper(), listening(stack.worker())
    with postgres.no_connection_left():
        refused = browser.send(thread, "refused", key="once")
        accepted = send(agents.echo, thread, "accepted")  # by a process that has its connection already
        wait_for(lambda: "too many clients" in worker.text, LONG, "the worker to find none")
        assert status(accepted) == "pending"
    assert_asked_to_come_back(refused)
    again = browser.send(thread, "refused", key="once")
    assert again.status == 201
    wait_for(lambda: set(Run.objects.values_list("status", flat=True)) == {"succeeded"}, LONG, "both runs to succeed")
    assert Run.objects.count() == 2 and sweeper.alive and worker.alive


def assert_asked_to_come_back(answer: Answer) -> None:
    assert (answer.status, answer.body["code"]) == (503, "unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert "SELECT" not in str(answer.body) and "connection" not in str(answer.body)  # nothing of what is inside


# --- a database that takes no more --------------------------------------------------------------------------------


@contextmanager
def read_only(web: Web) -> Iterator[None]:
    with postgres.read_only():
        yield


@contextmanager
def small_disk(web: Web) -> Iterator[None]:
    with postgres.full_disk(Record._meta.db_table):
        yield


@contextmanager
def no_file_may_grow(web: Web) -> Iterator[None]:
    process = psutil.Process(web.pid)
    before = process.rlimit(psutil.RLIMIT_FSIZE)
    process.rlimit(psutil.RLIMIT_FSIZE, (32_768, before[1]))
    yield
    process.rlimit(psutil.RLIMIT_FSIZE, before)


Trouble = Callable[[Web], AbstractContextManager[None]]
TROUBLES = [
    pytest.param(read_only, marks=pytest.mark.postgres, id="read-only"),
    # Only root may mount the small disk; elsewhere the other cases stand for it.
    *([pytest.param(small_disk, marks=pytest.mark.postgres, id="disk full")] if os.geteuid() == 0 else []),
    pytest.param(no_file_may_grow, marks=pytest.mark.once, id="no file may grow"),
]


@pytest.mark.own_workers
@pytest.mark.covers("fault:D7")
@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_database_that_takes_no_more_costs_a_503_and_nothing_is_half_done(
    stack: Stack, thread: Thread, user: AbstractUser, trouble: Trouble
) -> None:
    web = stack.web()
    browser = Browser.of(web.url, user)
    assert browser.send(thread, "before").status == 201
    rows = counts()
    # Random, so that it takes the room it seems to take.
    long = os.urandom(25_000).hex()
    with trouble(web):
        refused = browser.send(thread, long, key="once")
        assert_asked_to_come_back(refused)
        assert counts() == rows
        assert browser.get(f"/agent/threads/{thread.pk}").status == 200
    connections.close_all()
    again = wait_for(lambda: (answer := browser.send(thread, long, key="once")).status == 201 and answer, 10, "a 201")
    assert Run.objects.filter(pk=again.body["id"]).count() == 1 and Run.objects.count() == 2
    assert web.alive


def counts() -> tuple[int, ...]:
    return tuple(model.objects.count() for model in (Run, Message, Record))


# --- a lock that is held for long ---------------------------------------------------------------------------------


@contextmanager
def runs_locked() -> Iterator[None]:
    """Hold what a migration holds: on PostgreSQL the table of runs, on SQLite the whole database."""
    locker = connection.copy()
    with locker.cursor() as cursor:
        if locker.vendor == "postgresql":
            cursor.execute("BEGIN")
            cursor.execute(f"LOCK TABLE {Run._meta.db_table} IN ACCESS EXCLUSIVE MODE")
        else:
            cursor.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            cursor.execute("ROLLBACK")
            locker.close()


@pytest.mark.longer
@pytest.mark.covers("fault:D8", "promise:P1")
def test_a_lock_held_for_long_delays_runs_and_is_not_followed_by_a_storm(
    stack: Stack, make_thread: Callable[..., Any], user: AbstractUser
) -> None:
    threads = [make_thread("slow") for _ in range(RUNS)]
    runs = [send(agents.slow, thread) for thread in threads]
    browser = Browser.of(stack.web().url, user)
    stack.sweeper()
    workers = [stack.worker(), stack.worker()]
    wait_for(lambda: any(pieces(runs)), LONG, "the first text")
    with runs_locked():
        ends_at = time.monotonic() + 7  # longer than three leases, and than the time anybody waits for a lock
        if connection.vendor == "postgresql":  # on SQLite a request may wait for twenty seconds
            assert_asked_to_come_back(browser.send(make_thread("slow"), agent="slow"))
            assert time.monotonic() < ends_at
        wait_for(lambda: time.monotonic() >= ends_at, 10, "the end of the lock")
    wait_for(lambda: statuses(runs) == {"succeeded"}, 2 * LONG, "every run to succeed")
    for run in Run.objects.filter(pk__in=[run.pk for run in runs]):
        assert_log_is_whole(run)
        assert run.attempt <= 3 and run.poisoned_at is None
    assert all(worker.alive for worker in workers)
