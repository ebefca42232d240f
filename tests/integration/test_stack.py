"""A stack's processes work on the test's database and end with the test."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.faults.runs import LONG, send, status
from tests.stack import Stack, wait_for
from tests.testapp import agents


def test_worker_and_sweeper_finish_what_they_do_on_sigterm(stack: Stack, make_thread: Callable[..., Any]) -> None:
    run = send(agents.echo, make_thread(), "hello world")
    worker, sweeper = stack.worker(), stack.sweeper()
    wait_for(lambda: status(run) == "succeeded", LONG, "the run to succeed")
    assert worker.sigterm() == 0
    assert sweeper.sigterm() == 0


def test_web_serves_pages_and_static_files(stack: Stack) -> None:
    web = stack.web()
    for path in ("/admin/login/", "/static/agentcore/agent-client.js"):
        with urllib.request.urlopen(web.url + path, timeout=10) as answer:
            assert answer.status == 200


def test_work_horses_end_with_the_stack_even_when_their_parent_is_gone(
    transactional_db: None, tmp_path: Path, make_thread: Callable[..., Any]
) -> None:
    with Stack(tmp_path) as stack:
        stack.hold_tools()
        send(agents.worker_bee, make_thread("worker_bee"))
        worker = stack.worker("stock")
        wait_for(stack.effects, LONG, "the tool's effect")
        horses = worker.children()
        assert horses
        worker.kill9_alone()
        assert [pid for pid in horses if _runs(pid)] == horses
    wait_for(lambda: not [pid for pid in horses if _runs(pid)], 5, "the horses to end")


def test_a_failed_wait_says_what_it_waited_for() -> None:
    with pytest.raises(AssertionError, match=r"Waited 0 s for the moon; the last answer was None"):
        wait_for(lambda: None, 0, "the moon")


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
