"""What a test leaves behind is found, and named so that it can be mended."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections

from tests import leftovers
from tests.leftovers import Watch, tasks_left
from tests.stack import wait_for

pytestmark = pytest.mark.once
Undo = Callable[[], Any]


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """A watch of a run and a checkout of its own, which is not patient: others watch the real checkout meanwhile."""
    monkeypatch.setattr(leftovers, "PATIENCE", 0.3)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "checkout" / "docs").mkdir(parents=True)
    watch = Watch(tmp_path, tmp_path / "checkout")
    watch.begin()
    yield watch
    watch.end()


def a_thread(run: Path) -> Undo:
    over = threading.Event()
    thread = threading.Thread(target=over.wait, name="left-alone", daemon=True)
    thread.start()
    return lambda: (over.set(), thread.join())


def a_process(run: Path) -> Undo:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    return lambda: child.communicate(b"\n")


def a_child_of_the_fork_server(run: Path) -> Undo:
    child = multiprocessing.get_context("forkserver").Process(target=time.sleep, args=(600,))
    child.start()
    return lambda: (child.kill(), child.join(), child.close())


def an_orphan(run: Path) -> Undo:
    sleeper = "import sys, subprocess; print(subprocess.Popen(['sleep', '600'], stdout=2).pid)"
    env = {**os.environ, "AGENTCORE_TEST_DIR": str(run)}
    pid = int(subprocess.run([sys.executable, "-c", sleeper], env=env, stdout=subprocess.PIPE, check=True).stdout)
    return lambda: os.kill(pid, 9)


def a_socket(run: Path) -> Undo:
    return socket.socket().close


def a_file_in_the_checkout(run: Path) -> Undo:
    path = run / "checkout" / "docs" / "left.rdb"
    path.touch()
    return path.unlink


def a_temporary_file(run: Path) -> Undo:
    path = run / "tmp" / "agentcore-left"
    path.touch()
    return path.unlink


LEFT = {
    a_thread: "the thread 'left-alone', which is at",
    a_process: "the process",
    a_child_of_the_fork_server: "the process",
    an_orphan: "(sleep 600)",
    a_socket: "an open descriptor",
    a_file_in_the_checkout: "docs/left.rdb",
    a_temporary_file: "tmp/agentcore-left",
}


@pytest.mark.parametrize("leave", LEFT, ids=lambda leave: leave.__name__)
def test_it_is_named_once_and_not_laid_at_the_next_tests_door(
    watch: Watch, tmp_path: Path, leave: Callable[[Path], Undo]
) -> None:
    assert watch.left() == []
    undo = leave(tmp_path)
    try:
        assert any(LEFT[leave] in about for about in watch.left())
        assert watch.left() == []
    finally:
        undo()


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_a_thread_has_left_open_is_named_though_the_thread_is_gone(watch: Watch) -> None:
    def work() -> None:
        connections["default"].ensure_connection()
        kept.append(connections["default"])

    kept: list[Any] = []
    connection.ensure_connection()
    thread = threading.Thread(target=work, name="careless")
    thread.start()
    thread.join()
    try:
        (about,) = [one for one in watch.left() if "database" in one]
        assert "'careless'" in about
    finally:
        kept[0].inc_thread_sharing()
        kept[0].close()


def test_what_is_on_its_way_out_is_waited_for(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "PATIENCE", 20)
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    timer = threading.Timer(0.1, over.set)
    timer.start()
    assert watch.left() == []
    timer.join()


def test_a_source_file_is_its_authors(watch: Watch, tmp_path: Path) -> None:
    (tmp_path / "checkout" / "docs" / "written-meanwhile.md").touch()
    assert watch.left() == []


async def test_a_task_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "PATIENCE", 0.1)
    task = asyncio.create_task(asyncio.sleep(600), name="forgotten")
    (about,) = await tasks_left()
    assert "'forgotten'" in about
    task.cancel()
    await asyncio.wait([task])
    assert await tasks_left() == []


def test_an_orphan_is_one_only_as_long_as_it_runs(watch: Watch, tmp_path: Path) -> None:
    an_orphan(tmp_path)()
    wait_for(lambda: not any("sleep 600" in about for about in watch.left()), 20, "it to be gone")
