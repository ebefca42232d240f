"""A pytest plugin that fails a test which leaves something running or open: the next test must not meet it.

After each test, and after all of its fixtures are torn down, nothing may be there that was not there before it: no
thread, no task of the test's event loop, no child process, no database connection, no socket or other open file, and
no file in the checkout or in the run's own temporary directory. What is merely on its way out gets `PATIENCE`.

What a library keeps for the whole process is named in `pools()`, `kept_processes()` and `kept_descriptors()`, each with
its reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from tests.servers import DIRECTORY_VARIABLE, spreads

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 5.0
"""Seconds that a thread or process which was told to end may take for it on a busy machine."""
SOURCES = {".py", ".md", ".html", ".js", ".mjs", ".css", ".toml", ".po", ".json", ".txt", ".yml", ".ts"}
"""A new file of these in the checkout is taken for its author's, who works while the suite runs."""
NOT_OURS = {"__pycache__", "node_modules"}
HOW_TO_MEND = (
    "A test ends what it starts: join the thread, await or cancel the task, stop the process, close the connection, "
    "write below tmp_path. See CONTRIBUTING.md, “Tests leave nothing behind”."
)

PROC = Path("/proc/self/fd").exists() and Path(f"/proc/self/task/{os.getpid()}/children").exists()
"""Whether this is a Linux that tells of descriptors and children; elsewhere the former go unseen."""

Things = dict[Any, str]
"""What there is: a key that identifies a thing as long as it lives, and a sentence about it."""


class Leftovers(AssertionError):
    """The test has left something behind."""


# --- what may stay --------------------------------------------------------------------------------------------------


def pools() -> Iterator[threading.Thread]:
    """Threads that a library, or agentcore, keeps for as long as the process lives."""
    from asgiref.sync import SyncToAsync

    from agentcore.realtime import database

    yield from SyncToAsync.single_thread_executor._threads  # where asgiref runs all thread-sensitive code
    yield from database._threads._threads  # where sockets run their queries; each gives its connection back


def kept_processes() -> Iterator[tuple[int, list[int]]]:
    """The processes that serve the whole run, each with the descriptors it costs: of the stacks, and of suspects."""
    from tests import warm

    for one in warm.running():
        yield one.process.pid, [*one.descriptors()]
    server: Any = forkserver._forkserver  # type: ignore[attr-defined]
    tracker: Any = resource_tracker._resource_tracker  # type: ignore[attr-defined]
    if server._forkserver_pid is not None:
        yield server._forkserver_pid, [server._forkserver_alive_fd]
    if tracker._pid is not None:
        yield tracker._pid, [tracker._fd]


def kept_descriptors() -> Iterator[int]:
    """Those of such processes, and of the main thread's connections to the database and to Redis."""
    from django.db import connections

    from agentcore.services import dispatch

    for _, descriptors_of in kept_processes():
        yield from descriptors_of
    for wrapper in connections.all(initialized_only=True):
        if wrapper.connection is not None and wrapper.vendor == "postgresql":
            yield wrapper.connection.fileno()
    for client in dispatch._clients.values():  # a pool, closed by dispatch.forget()
        pool: Any = client.connection_pool
        for connection in [*pool._available_connections, *pool._in_use_connections]:
            if connection._sock is not None:
                yield connection._sock.fileno()


# --- what there is --------------------------------------------------------------------------------------------------


class DatabaseConnections:
    """Every connection that Django has made and nobody has closed, whoever holds it."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[Any, threading.Thread]] = {}

    def note(self, connection: Any, **kwargs: Any) -> None:
        """Remember one; Django's signal calls this."""
        raw = connection.connection
        self._made[id(raw)] = (raw, threading.current_thread())

    def open(self) -> Things:
        """Those that are open, but for the ones of the main thread, which Django keeps."""
        self._made = {key: made for key, made in self._made.items() if not _is_closed(made[0])}
        return {
            ("database", key): f"an open database connection of the thread {thread.name!r}: {raw!r}"
            for key, (raw, thread) in self._made.items()
            if thread is not threading.main_thread()
        }


def _is_closed(raw: Any) -> bool:
    if hasattr(raw, "closed"):
        return bool(raw.closed)
    try:
        raw.total_changes  # noqa: B018 - raises on a closed SQLite connection
    except Exception:
        return True
    return False


def threads() -> Things:
    """The threads of this process."""
    kept = {thread.ident for thread in pools()}
    return {
        ("thread", thread.ident): f"the thread {thread.name!r}"
        for thread in threading.enumerate()
        if thread.ident not in kept and thread is not threading.main_thread()
    }


class Processes:
    """The processes below this one, and those they left without a parent: told by the run's directory they inherit."""

    def __init__(self, run: Path) -> None:
        self._mark = f"{DIRECTORY_VARIABLE}={run}".encode() + b"\0"
        self._postmaster = run / "pg" / "postmaster.pid"
        self._reaped = -1

    def there(self) -> Things:
        """All that run; orphans are looked for after a test that had processes of its own."""
        found = {child.pid for child in psutil.Process().children()} if not PROC else _children()
        reaped = resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt
        if reaped != self._reaped:
            self._reaped = reaped
            self._known = self._orphans()
        kept = {pid for pid, _ in kept_processes()}
        for server in kept:
            with contextlib.suppress(psutil.Error):
                found |= {child.pid for child in psutil.Process(server).children()}
        with contextlib.suppress(OSError):  # a test that crashes the run's PostgreSQL starts it anew
            kept.add(int(self._postmaster.read_text().split()[0]))
        return {("process", pid): f"the process {pid} ({_command(pid)})" for pid in (found | self._known) - kept}

    def _orphans(self) -> set[int]:
        marked: dict[int, int] = {}
        for process in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                if self._mark in Path(f"/proc/{process.pid}/environ").read_bytes():
                    marked[process.pid] = process.ppid()
        return {pid for pid, parent in marked.items() if parent not in marked and parent != os.getpid()}

    def look_again(self) -> None:
        """Look for orphans again."""
        self._reaped = -1


def _children() -> set[int]:
    found: set[int] = set()
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):
            found.update(map(int, Path(f"/proc/self/task/{task}/children").read_text().split()))
    return found


def _command(pid: int) -> str:
    try:
        return " ".join(psutil.Process(pid).cmdline())[:200] or "a zombie: nobody waited for it"
    except psutil.Error:
        return "gone meanwhile"


def descriptors() -> Things:
    """The open files, sockets and pipes, but for those of SQLite, which are counted as connections."""
    if not PROC:
        return {}
    kept = set(kept_descriptors())
    database = os.environ.get("DATABASE_URL", "").removeprefix("sqlite:///")
    found: Things = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{name}")
            if int(name) not in kept and not target.startswith(database or "\0"):
                found["descriptor", name, target] = f"an open descriptor {name}: {target}"
    return found


class Files:
    """New entries of the checkout's directories, and of the run's temporary one."""

    def __init__(self, checkout: Path, temporary: Path) -> None:
        self._temporary = temporary
        self._seen: dict[Path, tuple[int, frozenset[str]]] = {}
        self._look_at(checkout)

    def _look_at(self, directory: Path) -> None:
        self._seen[directory] = (directory.stat().st_mtime_ns, frozenset(os.listdir(directory)))
        for path in directory.iterdir():
            if path.is_dir() and not path.is_symlink() and not _is_passed_by(path):
                self._look_at(path)

    def there(self) -> Things:
        """What is in the temporary directory, and what is new in the checkout since the last time."""
        found: Things = {("file", name): f"the file {self._temporary / name}" for name in os.listdir(self._temporary)}
        for directory, (changed, names) in list(self._seen.items()):
            try:
                now = directory.stat().st_mtime_ns
            except FileNotFoundError:
                del self._seen[directory]
                continue
            if now == changed:
                continue
            entries = frozenset(os.listdir(directory))
            self._seen[directory] = (now, entries)
            for path in (directory / name for name in entries - names):
                if not _is_passed_by(path) and not _is_source(path):
                    found["file", path] = f"the file {path}"
        return found


def _is_passed_by(path: Path) -> bool:
    # Hidden ones are caches of tools and an editor's own.
    return path.name in NOT_OURS or path.name.startswith(".") or path.suffix == ".pyc" or path.name.endswith("~")


def _is_source(path: Path) -> bool:
    if path.is_dir():
        inside = [entry for entry in path.rglob("*") if entry.is_file() and not _is_passed_by(entry)]
        return bool(inside) and all(entry.suffix in SOURCES for entry in inside)
    return path.suffix in SOURCES or not path.exists()


# --- the watch ------------------------------------------------------------------------------------------------------


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
