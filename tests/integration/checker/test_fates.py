"""The checker asks where runs have got to, who holds them, and what clients saw: I1, I3, I10 to I14."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.utils import timezone

from agentcore.engine.runtime import this_worker
from agentcore.models import Run, ToolCall
from agentcore.streams.models import Record
from agentcore.testing import Evidence, History, Turn
from agentcore.testing.faults import checker
from agentcore.testing.faults.checker import Answer, backends, fates, worker_is_alive
from agentcore.testing.faults.checker.evidence import Dossier
from tests.integration.checker.crime import acted, found, make, seen, waiting
from tests.integration.room import log
from tests.stack import database_url

pytestmark = [pytest.mark.once, pytest.mark.django_db]

MINUTE = timedelta(minutes=1)


# --- I1 and I10 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["pending", "running"])
def test_a_run_that_nobody_finished_is_found(status: str) -> None:
    run = make([Turn(text="Hi")]).send()
    Run.objects.filter(pk=run.pk).update(
        status=status, lease_expires_at=timezone.now() + MINUTE if status == "running" else None
    )
    assert found() == {"I1"} and f"is {status} although all is calm" in seen()


def test_a_run_that_waits_for_nothing_is_found() -> None:
    ToolCall.objects.filter(run=waiting()).update(status="pending")
    assert "waits for nothing" in seen()


def test_an_accepted_run_that_is_gone_is_found() -> None:
    lost = uuid4()
    assert found(Evidence(answers=[Answer(uuid4(), "test", "k", lost), Answer(uuid4(), "test", "l", None)])) == {"I1"}
    assert str(lost) in seen(Evidence(answers=[Answer(uuid4(), "test", "k", lost)]))


def test_two_runs_of_one_key_are_found() -> None:
    room = make([Turn(text="a"), Turn(text="b")])
    first, second = room.play("1"), room.play("2")
    Run.objects.filter(pk=first.pk).update(key="k")
    told = [Answer(room.thread.pk, first.agent, "k", run.pk) for run in (first, second)]
    assert found(Evidence(answers=told[:1])) == set()
    assert found(Evidence(answers=told)) == {"I10"}


def test_rows_that_the_database_would_refuse_are_judged_all_the_same() -> None:
    room = make([Turn(text="a"), Turn(text="b")])
    dossiers = [Dossier(room.play(text), []) for text in ("1", "2")]
    for dossier in dossiers:
        dossier.run.key = "k"
    assert [item.invariant for item in fates.of_all(dossiers, Evidence(), every=True)] == ["I10"]
    dossiers[0].run.status, dossiers[0].run.lease_expires_at = "running", None
    assert [item.invariant for item in fates.of_run(dossiers[0], Evidence(calm=False))] == ["I11"]


# --- I11 and I12 --------------------------------------------------------------------------------------------------


def running(worker: str, lease_ended: timedelta) -> None:
    run = make([Turn(text="Hi")]).send()
    Run.objects.filter(pk=run.pk).update(status="running", worker=worker, lease_expires_at=timezone.now() - lease_ended)


def test_a_lease_that_ran_out_long_ago_is_found() -> None:
    running("somewhere:1", MINUTE)
    assert found(Evidence(calm=False)) == {"I11"}
    assert found(Evidence(calm=False, is_alive=lambda worker: worker == "somewhere:1")) == {"I11"}


def test_a_dead_worker_that_still_holds_its_run_is_found() -> None:
    running("somewhere:1", MINUTE)
    assert found(Evidence(calm=False, is_alive=lambda worker: False)) == {"I12"}


def test_the_time_a_take_over_needs_is_granted_to_the_dead() -> None:
    running("somewhere:1", timedelta(seconds=1))
    assert found(Evidence(calm=False, is_alive=lambda worker: False)) == set()


def test_a_lease_on_a_run_that_nobody_drives_is_found() -> None:
    run = waiting()
    Run.objects.filter(pk=run.pk).update(lease_expires_at=timezone.now() + MINUTE)
    assert found() == {"I11"}


def test_workers_live_as_long_as_their_processes() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = f"{this_worker().rpartition(':')[0]}:{child.pid}"
    assert worker_is_alive(this_worker()) and worker_is_alive(name) and worker_is_alive("elsewhere:1")
    assert child.stdin is not None
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not worker_is_alive(name)  # a zombie until it is waited for
    child.wait()
    assert not worker_is_alive(name)


# --- I3 -----------------------------------------------------------------------------------------------------------


def client(run: Run, events: list[dict[str, Any]], **options: Any) -> Evidence:
    return Evidence(histories=[History("tab 1", run.pk, events, **options)])


def test_a_client_that_saw_the_log_as_it_is_violates_nothing() -> None:
    run = acted()
    events = log(run)
    assert found(client(run, events)) == set()
    assert found(client(run, events[4:], after=3)) == set()
    assert found(client(run, events[:5], to_the_end=False)) == set()


def test_a_client_that_was_forgotten_is_found() -> None:
    run = acted()
    events = log(run)
    assert found(client(run, events[:-2])) == {"I3"}
    assert "never given the last 2 events" in seen(client(run, events[:-2]))


@pytest.mark.parametrize("fault", ["gap", "double", "order", "invented", "too much"])
def test_a_client_that_saw_something_else_is_found(fault: str) -> None:
    run = acted()
    events = log(run)
    match fault:
        case "gap":
            del events[3]
        case "double":
            events.insert(3, events[3])
        case "order":
            events[3], events[4] = events[4], events[3]
        case "invented":
            events[3] = {**events[3], "step": 99}
        case "too much":
            events.append({**events[-1], "seq": len(events)})
    assert found(client(run, events)) == {"I3"} and "tab 1" in seen(client(run, events))


# --- I13 and I14 --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["event", "error", "call", "log"])
def test_a_secret_in_sight_is_found_and_not_repeated(where: str) -> None:
    run = acted()
    canary = "canary-5ecret"
    texts = {}
    match where:
        case "event":
            record = Record.objects.get(stream=run.stream_id, seq=3)
            data = bytes(record.data)[:-1] + b',"note":"canary-5ecret"}'
            Record.objects.filter(stream=run.stream_id, seq=3).update(data=data)
        case "error":
            Run.objects.filter(pk=run.pk).update(error_message=f"401 for key {canary}")
        case "call":
            ToolCall.objects.filter(run=run).update(error=canary)
        case "log":
            texts["worker.log"] = f"INFO {canary}"
    evidence = Evidence(canaries=[canary], texts=texts)
    assert found(evidence) == {"I13"}
    assert canary not in seen(evidence)


def test_no_canary_no_complaint() -> None:
    acted()
    assert found(Evidence(canaries=["canary-5ecret"], texts={"worker.log": "INFO all is well"})) == set()


@pytest.mark.django_db(transaction=True)
def test_a_forgotten_transaction_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checker.leaks, "IDLE_SECONDS", 0.0)
    if connection.vendor == "sqlite":
        assert backends.forgotten_transactions(0.0) == []
        return
    import psycopg

    with psycopg.connect(database_url()) as forgotten:
        forgotten.execute("SELECT 'I was forgotten'")
        assert found() == {"I14"} and "I was forgotten" in seen()
    assert found() == set()


def test_only_the_runs_asked_about_are_checked() -> None:
    bad, good = make([Turn(text="a")]).send(), acted()
    assert [item.run for item in checker.check_invariants([bad.pk, good.pk])] == [str(bad.pk)]
    assert checker.check_invariants([good.pk]) == []


def test_a_violation_reads_as_a_sentence() -> None:
    run = SimpleNamespace(pk=UUID(int=1))
    assert str(Dossier(run, []).violates("I1", "was lost")) == f"I1 {UUID(int=1)}: was lost"  # type: ignore[arg-type]
