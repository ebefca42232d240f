"""A stack's processes work on the test's database and end with the test."""

from __future__ import annotations

import os
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.runs import LONG, send, status
from tests.programs import lives
from tests.stack import Stack, wait_for
from tests.testapp import agents
from tests.warm import KEPT, running


def test_worker_and_sweeper_finish_what_they_do_on_sigterm(stack: Stack, make_thread: Callable[..., Any]) -> None:
    run = send(agents.echo, make_thread(), "hello world")
    worker, sweeper = stack.worker(), stack.sweeper()
    wait_for(lambda: status(run) == "succeeded", LONG, "the run to succeed")
    assert worker.sigterm() == 0
    assert sweeper.sigterm() == 0


def test_a_worker_that_was_told_to_stop_leaves_nothing_among_the_temporary_files(stack: Stack, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as place:
        worker = stack.worker("concurrent", TMPDIR=place)
        wait_for(lambda: os.listdir(place), LONG, "the socket of its server")
        wait_for(lambda: "Listening" in worker.text, LONG, "it to listen")
        assert worker.sigterm() == 0
        assert os.listdir(place) == []


def test_a_worker_says_so_where_its_temporary_files_have_too_long_a_path(stack: Stack, tmp_path: Path) -> None:
    place = tmp_path / ("long" * 30)
    place.mkdir()
    worker = stack.worker("concurrent", TMPDIR=str(place))
    wait_for(lambda: not worker.alive, LONG, "it to end")
    assert "Set the environment variable TMPDIR to a short path" in worker.text and "Traceback" not in worker.text


def test_web_serves_pages_and_static_files(stack: Stack) -> None:
    web = stack.web()
    for path in ("/admin/login/", "/static/agentcore/agent-client.js"):
        with urllib.request.urlopen(web.url + path, timeout=10) as answer:
            assert answer.status == 200


def test_work_horses_end_with_the_stack_even_when_their_parent_is_gone(
    stack: Stack, make_thread: Callable[..., Any]
) -> None:
    stack.hold_tools()
    send(agents.worker_bee, make_thread("worker_bee"))
    worker = stack.worker("stock")
    wait_for(stack.effects, LONG, "the tool's effect")
    horses = worker.children()
    assert horses
    worker.kill9_alone()
    assert [pid for pid in horses if lives(pid)] == horses
    stack.close()
    wait_for(lambda: not [pid for pid in horses if lives(pid)], 5, "the horses to end")


def test_a_failed_wait_says_what_it_waited_for() -> None:
    with pytest.raises(AssertionError, match=r"Waited 0 s for the moon; the last answer was None"):
        wait_for(lambda: None, 0, "the moon")


LOOK = """
import json, os, signal, sys, threading
about = {
    "argv": sys.argv[1:], "main": sys.modules["__main__"].__spec__.name, "cwd": os.getcwd(), "flags": list(sys.flags),
    "leads": os.getsid(0) == os.getpid(), "threads": threading.active_count(), "fds": len(os.listdir("/proc/self/fd")),
    "environment": {name: value for name, value in os.environ.items() if name != "_"},
    "signals": [str(signal.getsignal(number)) for number in signal.valid_signals()], "stdin": sys.stdin.read(),
    "modules": sorted(name for name in sys.modules if name.startswith("django.db.backends.")),
}
print(json.dumps(about, sort_keys=True))
sys.exit(7)
"""


def test_what_a_warm_process_forks_is_a_process_like_any_other(stack: Stack) -> None:
    words = [sys.executable, "-m", "django", "shell", "--no-imports", "-c", LOOK]
    looks = [stack.start(name, command, LATER="yes") for name, command in (("warm", words), ("cold", ["env", *words]))]
    for process in looks:
        wait_for(lambda process=process: not process.alive, 60, f"{process.name} to end")
    assert [process.sigterm() for process in looks] == [7, 7], "the status is known, and it ended long ago"
    warm, cold = (process.text.splitlines()[-1] for process in looks)
    assert warm == cold
    stack.close()
    assert 0 < len(running()) <= KEPT
