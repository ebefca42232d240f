"""MCP servers that are away, die, flood or never answer: what is said of a call, and that none is sent twice."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connections

from agentcore import SYSTEM
from agentcore.engine.loop import advance
from agentcore.engine.runtime import Runtime
from agentcore.exceptions import ToolFailed
from agentcore.mcp import HttpServer, Rule, StdioServer, connection, mcp_tools
from agentcore.mcp.calling import ServerCall
from agentcore.mcp.shown import Shown
from agentcore.models import ToolCall
from agentcore.services import runs, unverified
from agentcore.testing import Turn, run_until_idle
from tests.integration.mcp_room import Place, http, place, stdio
from tests.integration.room import assert_ended_once, driven, fresh, make

pytestmark = [
    pytest.mark.once,
    pytest.mark.longer,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("long_lease"),
]
PROMPTLY = 1.5  # seconds: "about a second", on a machine that is busy with other tests


@pytest.fixture(params=("stdio", "http"))
def there(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A server of each kind."""
    with place(request.param, tmp_path) as found:
        yield found


def playing(server, *calls, turns=(), **options):
    """A room whose model asks for these calls at once, and then is done."""
    return make([Turn(calls=calls), *(turns or [Turn("Done.")])], [mcp_tools(server, **options)])


def call_of(run):
    return ToolCall.objects.get(run=run)


def test_a_server_that_is_killed_in_a_call_leaves_it_to_a_person(there):
    run = playing(there.server, ("slow", {"text": "refund"})).send()
    with driven(run):
        there.wait_for("slow refund")
        there.kill()
    call = call_of(run)
    assert (fresh(run).status, call.status) == ("waiting", "effect_unverified")
    assert "gave no result" in call.error
    assert there.notes == ["slow refund"]


def test_a_call_that_a_person_has_run_again_goes_to_a_new_server(tmp_path):
    there = stdio(tmp_path)
    run = playing(there.server, ("slow", {"text": "refund"})).send()
    with driven(run):
        there.wait_for("slow refund")
        there.kill()
    there.go()
    unverified.resolve(run, call_of(run).call_id, "run_again", user=SYSTEM)
    assert run_until_idle(fresh(run)).status == "succeeded"
    assert there.notes == ["slow refund", "slow refund", "done refund"] and len(there.pids) == 2


def test_a_pure_call_whose_server_dies_has_failed(tmp_path):
    run = playing(stdio(tmp_path).server, ("die", {}), effect="pure").play()
    assert (call_of(run).status, run.status) == ("failed", "succeeded")


def test_an_idempotent_call_whose_server_dies_is_sent_to_a_new_one(tmp_path):
    there = stdio(tmp_path)
    rules = {"slow": Rule(effect="idempotent", retries=1)}
    run = playing(there.server, ("slow", {"text": "refund"}), rules=rules).send()
    with driven(run):
        there.wait_for("slow refund")
        there.go()
        there.kill()
    assert call_of(run).status == "succeeded" and len(there.pids) == 2


def test_a_run_fails_where_a_required_server_is_away():
    run = playing(HttpServer("http://127.0.0.1:9/mcp"), ("search", {})).play()
    assert_ended_once(run, "failed")
    assert (run.error_code, "127.0.0.1:9" in run.error_detail) == ("tools_failed", True)


def test_a_run_fails_where_a_program_is_not_there():
    run = playing(StdioServer("/nowhere/to-be-found"), ("search", {})).play()
    assert (run.status, run.error_code) == ("failed", "tools_failed")
    assert "No such file" in run.error_detail


def test_a_run_goes_on_without_a_server_that_is_not_required():
    room = playing(HttpServer("http://127.0.0.1:9/mcp"), ("search", {}), required=False)
    run = room.play()
    assert run.status == "succeeded" and room.model.requests[0].tools == ()
    assert call_of(run).error == "There is no tool called 'search'."


def test_a_call_to_a_server_that_has_gone_away_has_failed_and_nothing_has_happened(tmp_path):
    second = [Turn(calls=[("search", {"query": "b"})]), Turn("Done.")]
    with http(tmp_path) as there:
        room = playing(there.server, ("slow", {"text": "a"}), turns=second)
        run = room.send()
        with driven(run):
            there.wait_for("slow a")
            there.kill()
    unverified.resolve(run, call_of(run).call_id, "give_up", user=SYSTEM)
    run_until_idle(fresh(run))
    late = ToolCall.objects.get(run=run, name="search")
    assert late.status == "failed" and "nothing has happened" in late.error
    assert fresh(run).status == "succeeded"


def test_a_call_to_a_server_that_has_ended_since_reaches_a_new_one(tmp_path):
    there = stdio(tmp_path)
    turns = [Turn(calls=[("steps", {})]), Turn("Done.")]
    run = playing(there.server, ("die", {}), turns=turns, effect="pure").play()
    assert ToolCall.objects.get(run=run, name="steps").status == "succeeded" and len(there.pids) == 2


def test_an_answer_that_floods_is_not_kept_and_others_go_on(there):
    room = playing(there.server, ("flood", {}), turns=[Turn(calls=[("search", {"query": "a"})]), Turn("Done.")])
    run = room.play()
    assert call_of(run).status == "effect_unverified" and run.status == "waiting"
    unverified.resolve(run, call_of(run).call_id, "give_up", user=SYSTEM)
    assert run_until_idle(fresh(run)).status == "succeeded"
    assert ToolCall.objects.get(run=run, name="search").status == "succeeded"


def test_a_call_that_is_never_answered_ends_with_its_time_and_its_server_is_told(there):
    run = playing(there.server, ("slow", {"text": "refund"}), timeout=3).play()
    call = call_of(run)
    assert call.status == "effect_unverified" and "did not end within 3 seconds" in call.error
    there.wait_for("cancelled refund")


def test_a_call_that_is_answered_with_a_servers_failure_is_left_to_a_person(tmp_path):
    with http(tmp_path) as there:
        there.break_one_call(503)
        run = playing(there.server, ("search", {"query": "a"})).play()
    assert (run.status, call_of(run).status) == ("waiting", "effect_unverified")
    assert there.notes == ["answered with 503"]


@pytest.mark.parametrize("kind, status", [("http", 302), ("http", 404), ("http --legacy", 404), ("http --legacy", 400)])
def test_a_call_that_was_refused_on_the_way_is_sent_once_more_in_a_new_session(kind, status, tmp_path):
    with place(kind, tmp_path) as there:
        there.break_one_call(status)
        run = playing(there.server, ("search", {"query": "a"})).play()
    assert (run.status, call_of(run).status) == ("succeeded", "succeeded")
    assert there.notes == [f"answered with {status}", "search a 3"]


@pytest.fixture
def hasty(monkeypatch):
    """Servers have a second to answer at all."""
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 1.0)


@pytest.mark.usefixtures("hasty")
def test_a_server_that_accepts_and_says_nothing_is_away():
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        server = HttpServer(f"http://127.0.0.1:{deaf.getsockname()[1]}/mcp")
        assert playing(server, ("search", {}), required=False).play().status == "succeeded"


@pytest.mark.usefixtures("hasty")
def test_a_program_that_says_nothing_is_away():
    run = playing(StdioServer(sys.executable, ["-c", "import time; time.sleep(600)"]), ("search", {})).play()
    assert (run.status, run.error_code) == ("failed", "tools_failed")
    assert "did not answer within" in run.error_detail


def test_a_cancel_is_there_within_a_second_and_told_to_the_server(there):
    run = playing(there.server, ("slow", {"text": "refund"})).send()
    with driven(run):
        there.wait_for("slow refund")
        runs.cancel(run, user=SYSTEM)
    there.wait_for("cancelled refund")
    ended = fresh(run)
    assert_ended_once(ended, "canceled")
    assert call_of(run).status == "effect_unverified"
    assert (ended.finished_at - ended.cancel_requested_at).total_seconds() < PROMPTLY


def test_two_runs_of_a_loop_share_a_session_and_a_cancel_of_one_leaves_the_other(there):
    room = playing(there.server, ("slow", {"text": "a"}), turns=[Turn(calls=[("slow", {"text": "b"})]), Turn("Done.")])
    one, other = room.send(), room.agent.runs.send(room.agent.threads.create(user=SYSTEM), "Go", user=SYSTEM)

    def cancel_one() -> None:
        there.wait_for("slow a")
        there.wait_for("slow b")
        runs.cancel(ToolCall.objects.get(arguments__contains='"a"').run_id, user=SYSTEM)
        there.wait_for("cancelled a")
        there.go()
        connections.close_all()

    async def both() -> None:
        runtime = Runtime("worker", own_threads=True)
        driving = [asyncio.create_task(advance(run.pk, runtime)) for run in (one, other)]
        await asyncio.to_thread(cancel_one)
        await asyncio.gather(*driving)
        await runtime.aclose()

    asyncio.run(both())
    assert sorted(fresh(run).status for run in (one, other)) == ["canceled", "succeeded"]
    assert len(there.pids) == 1 and "done b" in there.notes and "done a" not in there.notes


def test_a_tool_that_has_changed_since_it_was_offered_is_not_called(tmp_path):
    there = stdio(tmp_path)
    call = ServerCall(there.server, Shown("search", "the digest of another description"), 60, None)
    with pytest.raises(ToolFailed, match="has changed on its server"):
        asyncio.run(call({"query": "a"}, None))
    assert there.notes == []


def test_a_tool_whose_server_cannot_be_started_in_its_time_has_failed_and_nothing_has_happened():
    silent = StdioServer(sys.executable, ["-c", "import time; time.sleep(600)"])
    with pytest.raises(ToolFailed, match="nothing has happened"):
        asyncio.run(ServerCall(silent, Shown("search", ""), 60, 1.0)({}, None))
