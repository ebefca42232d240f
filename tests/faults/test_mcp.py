"""MCP servers of real workers: who shares one, what a worker's death leaves of a call, and who ends the server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentcore.models import ToolCall
from tests.faults.runs import LONG, send, settings_of_process, status, wait_for_success
from tests.integration.mcp_room import Place, stdio
from tests.programs import lives
from tests.stack import Stack, wait_for
from tests.testapp.served import PLACE_VARIABLE, served

QUICK = settings_of_process(LEASE_SECONDS=2, SWEEP_SECONDS=0.5, HINT_GRACE_SECONDS=1, POLL_SECONDS=1)


@pytest.fixture
def there(tmp_path: Path) -> Place:
    return stdio(tmp_path)


@pytest.mark.own_workers
@pytest.mark.parametrize("kind, servers", [("concurrent", 1), ("stock", 2)])
def test_runs_of_one_process_share_a_server_which_ends_with_it(
    stack: Stack, make_thread: Callable[..., Any], there: Place, kind: str, servers: int
) -> None:
    thread, env = make_thread("served"), {PLACE_VARIABLE: str(there.directory)}
    there.go()
    runs = [send(served, thread, text) for text in ("one", "two")]
    worker = stack.worker(kind, **env)
    for run in runs:
        wait_for_success(run)
    assert sorted(there.notes) == ["done one", "done two", "slow one", "slow two"]
    assert len(there.pids) == servers
    worker.sigterm()
    wait_for(lambda: not any(map(lives, there.pids)), LONG, "the servers to end")


def test_a_call_of_a_worker_that_is_killed_is_not_made_again(
    stack: Stack, make_thread: Callable[..., Any], there: Place
) -> None:
    run = send(served, make_thread("served"), "one")
    doomed = stack.worker(**QUICK, **{PLACE_VARIABLE: str(there.directory)})
    there.wait_for("slow one")
    doomed.kill9()
    stack.sweeper(**QUICK)
    stack.worker(**QUICK, **{PLACE_VARIABLE: str(there.directory)})
    wait_for(lambda: status(run) == "waiting", LONG, "the run to wait for a person")
    assert ToolCall.objects.get(run=run).status == "effect_unverified"
    assert there.notes.count("slow one") == 1
    wait_for(lambda: not any(map(lives, there.pids)), LONG, "the servers to end")
