"""A pytest plugin that fails a test which leaves something running or open: the next test must not meet it.

After each test, and after all of its fixtures are torn down, nothing may be there that was not there before it: no
thread, no task of the test's event loop, no child process, no database connection, no socket or other open file, and
no file in the checkout or in the run's own temporary directory. What is merely on its way out gets `PATIENCE`.
`tests/inventory.py` says what there is, and what may stay.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
import traceback
from collections.abc import AsyncIterator, Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.inventory import DatabaseConnections, Files, Processes, Things, descriptors, threads
from tests.servers import DIRECTORY_VARIABLE, spreads

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 5.0
"""Seconds that a thread or process which was told to end may take for it on a busy machine."""
HOW_TO_MEND = (
    "A test ends what it starts: join the thread, await or cancel the task, stop the process, close the connection, "
    "write below tmp_path. See CONTRIBUTING.md, “Tests leave nothing behind”."
)


class Leftovers(AssertionError):
    """The test has left something behind."""


class Watch:
    """What was there when the last test had ended, to be compared with what is there after the next."""

    def __init__(self, run: Path, checkout: Path = ROOT) -> None:
        self._databases = DatabaseConnections()
        self._processes = Processes(run)
        self._files = Files(checkout, temporary=run / "tmp")
        self._before: Things = {}

    def begin(self) -> None:
        """Take what is there now as given."""
        from django.db.backends.signals import connection_created

        connection_created.connect(self._databases.note)
        self._before = self._there()

    def end(self) -> None:
        """Hear of no more connections."""
        from django.db.backends.signals import connection_created

        connection_created.disconnect(self._databases.note)

    def left(self) -> list[str]:
        """Sentences about what a test has left; they are told once."""
        deadline, files = time.monotonic() + PATIENCE, self._files.there()
        while True:
            there = {**self._there(), **files}
            left = {key: about for key, about in there.items() if key not in self._before}
            if all(key[0] == "file" for key in left) or time.monotonic() > deadline:
                break
            gc.collect()  # what nobody refers to any more is closed with it
            self._processes.look_again()
            time.sleep(0.02)
        self._before = there
        return [about + _where(key) for key, about in left.items()]

    def _there(self) -> Things:
        return {**threads(), **self._processes.there(), **self._databases.open(), **descriptors()}


def _where(key: Any) -> str:
    frame = sys._current_frames().get(key[1]) if key[0] == "thread" else None
    if frame is None:
        return ""
    return ", which is at\n" + "".join(traceback.format_stack(frame)[-4:]).rstrip()


WATCH = pytest.StashKey[Watch]()
SECTION = "left behind"
REPORTED: list[str] = []


def pytest_sessionstart(session: pytest.Session) -> None:
    """Begin to watch, once Django is set up and the run's servers are there."""
    if spreads(session.config.option):
        return
    watch = session.config.stash[WATCH] = Watch(Path(os.environ[DIRECTORY_VARIABLE]))
    watch.begin()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    """Look once all fixtures are torn down; where that failed, its own error is the better one."""
    watch = item.config.stash[WATCH]
    try:
        yield
    except BaseException:
        watch.left()
        raise
    if left := watch.left():
        tell(item, left)


def tell(item: pytest.Item, left: Sequence[str]) -> None:
    """Fail the test, or only say at the end of the run what it has left."""
    about = "\n".join([f"{item.nodeid} has left", *(f"- {one}" for one in left), HOW_TO_MEND])
    if item.config.getoption("leftovers") == "fail":
        raise Leftovers(about)
    item.add_report_section("teardown", SECTION, about)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep what was left, also what a worker of pytest-xdist says of it."""
    if report.when == "teardown":
        REPORTED.extend(text for title, text in report.sections if SECTION in title)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was left, where that fails no test."""
    if REPORTED:
        terminalreporter.section("left behind")
        for about in REPORTED:
            terminalreporter.write_line(about.removesuffix(HOW_TO_MEND))
        terminalreporter.write_line(HOW_TO_MEND)


def pytest_collection_finish() -> None:
    """Leave what is loaded by now out of the collections that a look may need: they took a seventh of a second each."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the tasks of every coroutine test looked at, after its own fixtures."""
    for item in items:
        if isinstance(item, pytest.Function) and asyncio.iscoroutinefunction(item.function):
            item.fixturenames.insert(0, leaves_no_task.__name__)


@pytest_asyncio.fixture
async def leaves_no_task(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Fail a test whose event loop still has a task after it: the loop's end would cancel it in silence."""
    yield
    if left := await tasks_left():
        tell(request.node, left)


async def tasks_left() -> list[str]:
    """Sentences about the other tasks of this event loop that do not end."""
    me = asyncio.current_task()
    tasks = {task for task in asyncio.all_tasks() if task is not me and not _is_kept(task)}
    if tasks:
        _, tasks = await asyncio.wait(tasks, timeout=PATIENCE)
    return [f"the task {task.get_name()!r}: {task.get_coro()!r}" for task in tasks]


def _is_kept(task: asyncio.Task[Any]) -> bool:
    # channels_redis listens for as long as the loop lives, and ends that when the loop is closed.
    return "channels_redis" in getattr(getattr(task.get_coro(), "cr_code", None), "co_filename", "")
