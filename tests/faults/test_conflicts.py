"""Writers in each other's way: one claims, the others wait or try again, and nobody is told of it."""

from __future__ import annotations

import logging
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import AbstractUser
from django.db import OperationalError, connections, transaction

from agentcore import SYSTEM
from agentcore.database.again import RETRIES, unit
from agentcore.journal import fence
from agentcore.models import Message, Run, Thread
from agentcore.services import runs
from agentcore.states import RunStatus
from tests.faults import postgres
from tests.faults.runs import assert_log_is_whole, events, send, settings_of_process
from tests.integration.room import race
from tests.stack import Stack, wait_for
from tests.testapp import agents

PROCESSES = 16
CLAIMS = 20
SENDERS = 8
SENDS = 50


@pytest.mark.own_workers
@pytest.mark.covers("fault:D10", "promise:P2")
def test_sixteen_processes_that_want_every_run_get_each_once(stack: Stack, make_thread: Callable[..., Any]) -> None:
    thread = make_thread("side_by_side")
    wanted = [send(agents.side_by_side, thread, str(number)) for number in range(CLAIMS)]
    directory = stack.directory
    (directory / "runs").write_text("\n".join(str(run.pk) for run in wanted))
    names = [f"claimer{number}" for number in range(PROCESSES)]
    command = [sys.executable, "-m", "tests.faults.claimer", str(directory), *names]
    stack.start("claimers", command, **settings_of_process(LEASE_SECONDS=60))  # sixteen at once may stand still for two
    wait_for(lambda: ready(directory, names), 60, "every process to be ready")
    (directory / "go").touch()
    wait_for(lambda: all((directory / f"{name}.drove").exists() for name in names), 60, "every process to be done")
    drove = [run_id for name in names for run_id in (directory / f"{name}.drove").read_text().split()]
    assert set(Run.objects.values_list("status", "attempt")) == {("succeeded", 1)}
    assert max(Counter(drove).values()) == 1
    for run in wanted:
        assert [event["type"] for event in events(run)].count("run.started") == 1
    assert sum(bool((directory / f"{name}.drove").read_text()) for name in names) > 1, "there was no race"


def ready(directory: Path, names: list[str]) -> bool:
    return all((directory / f"{name}.ready").exists() for name in names)


@pytest.mark.longer
@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("fault:D5", "promise:P1")
def test_eight_senders_with_fifty_transactions_each_make_no_error(make_thread: Callable[..., Any]) -> None:
    shared = [make_thread() for _ in range(2)]

    def sender(number: int) -> None:
        for turn in range(SENDS):
            agents.echo.runs.send(shared[turn % 2], f"{number} {turn}", user=SYSTEM)
            with transaction.atomic():  # as an app's own code does: it reads first, and writes then
                found = Thread.objects.get(pk=shared[turn % 2].pk)
                found.title = f"{number} {turn}"
                found.save(update_fields=["title"])

    assert race(*(lambda number=number: sender(number) for number in range(SENDERS))) == [None] * SENDERS
    for thread in shared:
        numbers = list(thread.runs.order_by("number").values_list("number", flat=True))
        assert numbers == list(range(numbers[0], numbers[0] + SENDERS * SENDS // 2))
    assert Message.objects.count() == SENDERS * SENDS


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("fault:D16", "promise:P7")
def test_a_second_writer_of_a_run_waits_so_that_positions_become_visible_in_order(thread: Thread) -> None:
    run = send(agents.echo, thread)
    before = events(run)
    canceled = threading.Thread(target=lambda: (runs.cancel(run.pk, user=SYSTEM), connections.close_all()))
    with transaction.atomic():
        assert fence.hold(run.pk, (RunStatus.PENDING,)) is not None
        canceled.start()
        wait_for(postgres.waiting_for_a_lock, 10, "the second writer to wait")
        assert events(run) == before  # no position is allocated, let alone seen, before the first has committed
    canceled.join(10)
    assert_log_is_whole(run)
    assert events(run)[: len(before)] == before and events(run)[-1]["status"] == "canceled"


# --- a transaction that is rolled back for another's sake ---------------------------------------------------------


@pytest.mark.postgres
@pytest.mark.covers("fault:D4")
def test_a_service_that_loses_a_deadlock_runs_again_and_is_done_once(
    strict_sessions: None, thread: Thread, caplog: pytest.LogCaptureFixture
) -> None:
    run = send(agents.echo, thread)
    caplog.set_level(logging.INFO, logger="agentcore.engine")
    with postgres.session() as rival:
        # It notices a deadlock long after the service has.
        rival.execute("SET deadlock_timeout = '60s'; SET default_transaction_isolation = 'read committed'")
        rival.execute("BEGIN")
        rival.execute("UPDATE agentcore_streams_stream SET name = name WHERE id = %s", [thread.stream_id])
        outcome: list[Any] = []
        service = threading.Thread(target=lambda: outcome.extend(race(lambda: runs.cancel(run.pk, user=SYSTEM))))
        service.start()
        wait_for(postgres.waiting_for_a_lock, 10, "the service to hold the run and wait for the thread's log")
        rival.execute("UPDATE agentcore_run SET next_seq = next_seq WHERE id = %s", [run.pk])
        rival.execute("COMMIT")
        service.join(20)
    assert [result.status for result in outcome] == ["canceled"]
    assert "cancel runs again: deadlock detected" in caplog.text
    assert_log_is_whole(run)


@pytest.mark.postgres
@pytest.mark.covers("fault:D4")
def test_services_that_cannot_be_serialized_run_again(
    strict_sessions: None, thread: Thread, user: AbstractUser, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="agentcore.engine")
    for turn in range(10):
        texts = [f"{turn} {side}" for side in "ab"]
        outcomes = race(*(lambda text=text: send(agents.echo, thread, text).number for text in texts))
        assert sorted(outcomes) == [2 * turn + thread.next_number, 2 * turn + thread.next_number + 1]
    assert "could not serialize access" in caplog.text, "there was no conflict"
    assert Run.objects.count() == Message.objects.count() == 20


@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("fault:D4")
def test_a_unit_gives_up_after_five_more_tries_and_never_repeats_part_of_a_callers_transaction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []

    @unit
    def unlucky() -> None:
        calls.append(1)
        raise OperationalError("deadlock detected")

    monkeypatch.setattr("agentcore.database.again.is_conflict", lambda error: True)
    with pytest.raises(OperationalError):
        unlucky()
    assert len(calls) == 1 + RETRIES == 6
    calls.clear()
    with pytest.raises(OperationalError), transaction.atomic():
        unlucky()
    assert len(calls) == 1
    monkeypatch.setattr("agentcore.database.again.is_conflict", lambda error: False)  # an unknown COMMIT, for instance
    calls.clear()
    with pytest.raises(OperationalError):
        unlucky()
    assert len(calls) == 1
