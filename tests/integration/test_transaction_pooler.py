"""Behind a pooler in transaction mode: each transaction of a process may be in another session at the server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
import redis
from django.conf import LazySettings

from agentcore.models import Run
from agentcore.testing.faults.checker import check_invariants
from tests.acceptance.test_send_to_done import Browser
from tests.faults.runs import LONG, send, wait_for_success
from tests.integration.pooler import PGBOUNCER, Pooler, started
from tests.stack import Process, Stack, wait_for
from tests.testapp import agents, rows

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]
MakeThread = Callable[..., Any]
SESSIONS = 2
AT_ONCE = 8
"""Runs under way together, several for each session."""
ALL_TOOLS = "pure unsafe then idempotent checkable atomic then pure"


@pytest.fixture
def pooler(request: pytest.FixtureRequest, transactional_db: None) -> Iterator[Pooler]:
    """A pooler, which a test may give another number of sessions as the fixture's parameter."""
    if PGBOUNCER is None:
        pytest.skip("PgBouncer is not installed")
    with started(getattr(request, "param", SESSIONS)) as running:
        yield running


def under_way(runs: list[Run]) -> bool:
    return Run.objects.filter(pk__in=[run.pk for run in runs], status="running").count() == len(runs)


def assert_well(process: Process) -> None:
    assert not re.search(r"ERROR|CRITICAL|Traceback", process.text), process.tail()


def test_site_worker_and_sweep_work_through_a_transaction_pooler(
    pooler: Pooler, stack: Stack, make_thread: MakeThread, operator: Any, settings: LazySettings
) -> None:
    web = stack.web(**pooler.env)
    stack.hold_tools()
    with Browser(web, "ada") as ada, Browser(web, "olga") as olga:

        def post(agent: str, text: str = "go") -> Run:
            address = f"/agent/threads/{make_thread(agent).pk}/runs"
            sent = ada.post(address, {"agent": agent, "text": text, "key": "k"})
            assert sent.status_code == 201, sent.text
            return Run.objects.get(pk=UUID(sent.json()["id"]))

        counting = [post("counter") for _ in range(AT_ONCE)]
        with redis.Redis.from_url(settings.REDIS_URL) as client:
            client.flushall()  # the sweep has to find them
        worker = stack.worker("concurrent", "--concurrency", "30", **pooler.env)
        wait_for(lambda: under_way(counting), LONG, "runs to be under way")
        acting = [post("mixed_parallel", ALL_TOOLS) for _ in range(AT_ONCE)]
        gated = post("gated")
        with ada.watching(gated.thread_id) as feed:
            asked = feed.until(f"run:{gated.pk}", "approval.request")[-1]
            decision = {"approval": asked["approval"], "verdict": "approve", "digest": asked["digest"]}
            assert olga.post("/agent/approvals/decide", {"decisions": [decision]}).status_code == 200
            stack.release_tools()
            live = feed.until(f"run:{gated.pk}", "done")
        assert ada.get(f"/agent/runs/{gated.pk}/events")["events"] == live
    runs = [*counting, *acting, gated]
    for run in runs:
        wait_for_success(run)
    assert worker.sigterm() == 0
    assert check_invariants([run.pk for run in runs]) == []
    assert_well(worker)
    assert_well(web)
    assert pooler.left_in_sessions() == [(0,) * 6] * SESSIONS


@pytest.mark.longer
def test_atomic_tools_that_hold_every_session_delay_runs_and_happen_once(
    pooler: Pooler, stack: Stack, make_thread: MakeThread
) -> None:
    stack.hold_tools()
    worker = stack.worker("concurrent", "--concurrency", "30", **pooler.env)
    runs = [send(agents.atomic_booker, make_thread("atomic_booker"), f"{n}") for n in range(SESSIONS + 1)]
    wait_for(lambda: "a run was lost" in worker.text, LONG, "leases that nobody could renew")
    stack.release_tools()
    for run in runs:
        wait_for_success(run)
    assert sorted(effect.run_id for effect in rows.committed()) == sorted(str(run.pk) for run in runs)
    assert check_invariants([run.pk for run in runs]) == []


# --- why `prepare_threshold` is to be None -------------------------------------------------------------------------


@pytest.fixture
def old_pooler(pooler: Pooler) -> Pooler:
    """A pooler that knows nothing of prepared statements."""
    with psycopg.connect(dbname="pgbouncer", user="pgbouncer", host=str(pooler.directory), autocommit=True) as console:
        (version,) = console.execute("SHOW VERSION").fetchone() or ("",)
    if tuple(map(int, re.findall(r"\d+", version)[:2])) >= (1, 21):
        pytest.skip(f"{version} knows prepared statements")
    return pooler


@pytest.mark.parametrize("pooler", [1], indirect=True)
def test_two_workers_that_prepare_statements_are_in_each_others_way(
    old_pooler: Pooler, stack: Stack, make_thread: MakeThread
) -> None:
    stack.hold_tools()
    for number in range(2):
        send(agents.counter, make_thread("counter"), f"{number}")
    env = {**old_pooler.env, "AGENTCORE_TEST_PREPARE_THRESHOLD": "5"}  # psycopg's own default
    workers = [stack.worker("concurrent", "--concurrency", "1", **env) for _ in range(2)]
    refusal = 'prepared statement "_pg3_'
    wait_for(lambda: any(refusal in worker.text for worker in workers), LONG, "a statement to be refused")


def test_a_prepared_statement_may_turn_out_to_be_that_of_another_client(old_pooler: Pooler) -> None:
    with old_pooler.client(prepare_threshold=0) as one, old_pooler.client(prepare_threshold=0) as other:
        for client, name in ((one, "one"), (other, "other")):
            assert client.execute(f"SELECT '{name}', %s::int", [1]).fetchone() == (name, 1)
        one.commit()
        other.commit()  # its session is the one that is handed out next
        assert one.execute("SELECT 'one', %s::int", [2]).fetchone() == ("other", 2)
