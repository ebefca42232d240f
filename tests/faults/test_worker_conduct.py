"""What a worker process must and must not do: recover at its start, work for nobody, keep connections, drop a run."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from agentcore import SYSTEM
from agentcore.models import Run, ToolCall
from agentcore.services import runs
from tests.faults import postgres
from tests.faults.openings import inside_its_tool, listening, wait_for_text
from tests.faults.runs import LONG, assert_log_is_whole, events, send, settings_of_process, status, wait_for_success
from tests.servers import DIRECTORY_VARIABLE
from tests.stack import Process, Stack, wait_for
from tests.testapp import agents


@pytest.mark.covers("dj:RQ-6", "promise:P2")
def test_processes_that_start_while_a_run_is_driven_leave_it_alone(
    stack: Stack, make_thread: Callable[..., Any]
) -> None:
    stack.hold_tools()  # the run speaks on until it is let go
    run = send(agents.counter, make_thread("counter"))
    stack.worker()
    wait_for_text(run)
    others = [listening(stack.worker()), stack.sweeper(), stack.web()]
    stack.release_tools()
    wait_for_success(run)
    assert [event["type"] for event in events(run)].count("run.started") == 1
    assert "step.reset" not in [event["type"] for event in events(run)]
    assert Run.objects.get(pk=run.pk).attempt == 1 and all(other.alive for other in others)


@pytest.mark.covers("dj:RQ-7", "promise:P8")
def test_a_cancelled_run_stops_at_once_and_says_so_and_its_worker_is_free(
    stack: Stack, make_thread: Callable[..., Any]
) -> None:
    run = send(agents.endless, make_thread("endless"))
    worker = stack.worker()
    wait_for_text(run)
    runs.cancel(run, user=SYSTEM, reason="Enough.")
    wait_for(lambda: status(run) == "canceled", 10, "the run to be canceled, two minutes early")
    assert_log_is_whole(run)
    assert events(run)[-1]["status"] == "canceled"
    assert_free(worker, make_thread)


@pytest.mark.covers("dj:RQ-7")
def test_deleting_a_thread_whose_run_is_driven_stops_its_worker(stack: Stack, make_thread: Callable[..., Any]) -> None:
    thread = make_thread("endless")
    run = send(agents.endless, thread)
    stack.sweeper(**settings_of_process(SWEEP_SECONDS=0.25))
    worker = stack.worker()
    wait_for_text(run)
    agents.endless.threads.delete(thread, user=SYSTEM)
    wait_for(lambda: not Run.objects.filter(pk=run.pk).exists(), 10, "the run to be gone, two minutes early")
    assert_free(worker, make_thread)


def assert_free(worker: Process, make_thread: Callable[..., Any]) -> None:
    """The worker lives and takes the next run at once."""
    after = send(agents.echo, make_thread())
    wait_for_success(after)
    assert worker.alive


# --- database connections of a worker that forks --------------------------------------------------------------------


def sessions_of(name: str) -> int:
    """The sessions at the server of processes that were started under a name."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [name])
        return int(cursor.fetchone()[0])


@pytest.mark.own_workers
@pytest.mark.postgres
@pytest.mark.covers("dj:RQ-8", "fault:W17")
def test_the_parent_of_a_forking_worker_has_no_database_connection(
    stack: Stack, make_thread: Callable[..., Any]
) -> None:
    run, worker = inside_its_tool(
        stack, agents.careful_bee, make_thread, lambda: stack.worker("stock", PGAPPNAME="forking")
    )
    assert sessions_of("forking") > 0  # the horse's
    (horse,) = worker.children()
    os.kill(horse, signal.SIGKILL)
    wait_for(lambda: "terminated unexpectedly" in worker.text, LONG, "the parent to handle the death of its horse")
    wait_for(lambda: sessions_of("forking") == 0, LONG, "nothing of it to be connected")
    stack.release_tools()
    stack.sweeper()
    wait_for(lambda: status(run) == "succeeded", LONG, "the run to succeed")
    wait_for(lambda: sessions_of("forking") == 0, LONG, "the parent, idle again, not to be connected")
    assert worker.alive


@pytest.mark.once
@pytest.mark.own_workers
def test_a_concurrent_worker_does_not_collect_what_it_has_loaded(stack: Stack, make_thread: Callable[..., Any]) -> None:
    run = send(agents.gc_probe, make_thread("gc_probe"))
    stack.worker("concurrent")
    wait_for_success(run)
    assert int(ToolCall.objects.get(run=run).result) > 10_000  # Django alone is more


@pytest.fixture
def server_log() -> Iterator[Callable[[], str]]:
    """What the server has written since, with what it says of clients that are gone."""
    path = Path(os.environ[DIRECTORY_VARIABLE]) / "pg" / "log"
    start = path.stat().st_size
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    with postgres.session() as admin:
        admin.execute(f"ALTER DATABASE {name} SET log_min_messages = debug1")
        yield lambda: path.read_bytes()[start:].decode(errors="replace")
        admin.execute(f"ALTER DATABASE {name} RESET log_min_messages")


@pytest.mark.own_workers
@pytest.mark.postgres
@pytest.mark.covers("dj:RQ-9")
def test_jobs_take_leave_of_the_database(
    stack: Stack, make_thread: Callable[..., Any], server_log: Callable[[], str]
) -> None:
    runs_ = [send(agents.careful_bee, make_thread("careful_bee")) for _ in range(3)]
    runs_ += [send(agents.echo, make_thread()) for _ in range(3)]
    worker = stack.worker("stock", PGAPPNAME="polite")
    wait_for(lambda: {status(run) for run in runs_} == {"succeeded"}, LONG, "every run to succeed")
    wait_for(lambda: sessions_of("polite") == 0, LONG, "every job to be gone")
    assert worker.sigterm() == 0
    assert "unexpected EOF" not in server_log()


@pytest.mark.postgres
@pytest.mark.covers("dj:RQ-9")
def test_the_log_would_tell_of_a_client_that_goes_without_a_word(
    transactional_db: None, server_log: Callable[[], str], tmp_path: Path
) -> None:
    code = "import django, os; django.setup(); from agentcore.models import Run; Run.objects.exists(); os._exit(0)"
    with Stack(tmp_path) as running:
        rude = running.start("rude", [sys.executable, "-c", code])
        wait_for(lambda: not rude.alive, LONG, "it to be gone")
        wait_for(lambda: "unexpected EOF" in server_log(), 10, "the server to notice")


# --- deployment -----------------------------------------------------------------------------------------------------


@pytest.mark.covers("dj:RQ-10")
def test_a_worker_told_to_stop_ends_its_step_and_another_one_goes_on(
    stack: Stack, make_thread: Callable[..., Any]
) -> None:
    stack.sweeper()
    run, leaving = inside_its_tool(stack, agents.worker_bee, make_thread)
    os.kill(leaving.pid, signal.SIGTERM)
    time.sleep(0.5)  # for the signal to arrive while the step is under way
    stack.release_tools()
    wait_for(lambda: not leaving.alive, 25, "the worker to leave")
    stack.worker()
    wait_for_success(run)
    assert len(stack.effects()) == 1  # an unsafe call, neither broken off nor repeated
    assert Run.objects.get(pk=run.pk).lost_leases == 0
    assert "step.reset" not in [event["type"] for event in events(run)]
