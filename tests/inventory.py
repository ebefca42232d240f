"""What there is in and below a test process: threads, child processes, database connections, open descriptors, files.

What a library keeps for the whole process is named in `pools()`, `kept_processes()` and `kept_descriptors()`, each with
its reason.
"""

from __future__ import annotations

import contextlib
import os
import resource
import threading
from collections.abc import Iterator
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any

import psutil

from tests.servers import DIRECTORY_VARIABLE

SOURCES = {".py", ".md", ".html", ".js", ".mjs", ".css", ".toml", ".po", ".json", ".txt", ".yml", ".ts"}
"""A new file of these in the checkout is taken for its author's, who works while the suite runs."""
NOT_OURS = {"__pycache__", "node_modules"}

PROC = Path("/proc/self/fd").exists() and Path(f"/proc/self/task/{os.getpid()}/children").exists()
"""Whether this is a Linux that tells of descriptors and children; elsewhere the former go unseen."""

Things = dict[Any, str]
"""What there is: a key that identifies a thing as long as it lives, and a sentence about it."""


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
