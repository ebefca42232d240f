"""Real processes against the test database: workers, sweepers and web servers that a test may kill."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import psutil
from django.db import connection

from supportdemo.servers import RedisServer, free_port, launch, start_redis
from tests import warm
from tests.servers import DIRECTORY_VARIABLE
from tests.testapp import world
from tests.warm import MARK

ROOT = Path(__file__).resolve().parent.parent
WORKERS = {
    "concurrent": ["agentcore_worker"],
    "stock": ["rqworker", "agentcore", "--worker-class", "agentcore.jobs.worker.AgentcoreWorker"],
}
WORKERS_VARIABLE = "AGENTCORE_TEST_WORKERS"
T = TypeVar("T")


def wait_for(predicate: Callable[[], T], timeout: float, what: str, every: float = 0.05) -> T:
    """Ask until the answer is true and return it; fails with `what` and the last answer after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        answer = predicate()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"Waited {timeout:g} s for {what}; the last answer was {answer!r}.")
        time.sleep(every)


def chosen_workers() -> str:
    """The kind of worker this test run is for."""
    return os.environ.get(WORKERS_VARIABLE) or "concurrent"


def database_url() -> str:
    """The address of the database this test really uses, for processes it starts."""
    now = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{now['NAME']}"
    user, password = quote(now["USER"]), quote(now["PASSWORD"])
    if now["HOST"].startswith("/"):
        return f"postgresql://{user}:{password}@/{now['NAME']}?host={quote(now['HOST'])}"
    return f"postgresql://{user}:{password}@{now['HOST']}:{now['PORT'] or 5432}/{now['NAME']}"


class Process:
    """One process of a stack, in a session of its own."""

    def __init__(self, name: str, command: list[str], env: Mapping[str, str], log: Path, cwd: Path = ROOT) -> None:
        self.name = name
        self.log = log
        # Elsewhere than in the checkout other modules are imported.
        self._popen = (warm.fork(command, env, log) if cwd == ROOT else None) or self._start(command, env, cwd)
        self.pid = self._popen.pid

    def _start(self, command: list[str], env: Mapping[str, str], cwd: Path) -> subprocess.Popen[bytes]:
        return launch(command, self.log, cwd=cwd, env=dict(env))

    @property
    def alive(self) -> bool:
        """Whether the process itself (not its children) still runs."""
        return self._popen.poll() is None

    @property
    def text(self) -> str:
        """Everything it has written so far."""
        return self.log.read_text(errors="replace")

    def children(self) -> list[int]:
        """The pids below it: for an RQ worker, its work horse."""
        try:
            return [child.pid for child in psutil.Process(self.pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def kill9(self) -> None:
        """End it and all it has started at once, as a machine that loses power would."""
        pids = [self.pid, *self.children()]
        # Stopped first, so that the parent cannot react to the death of a child.
        for sign in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                _signal(pid, sign)
        self._popen.wait()

    def kill9_alone(self) -> None:
        """End the process itself and leave its children running."""
        _signal(self.pid, signal.SIGKILL)
        self._popen.wait()

    def sigterm(self, timeout: float = 20) -> int:
        """Ask it to finish and return its exit status."""
        _signal(self.pid, signal.SIGTERM)
        return self._popen.wait(timeout)

    def ask_to_finish(self) -> None:
        """Ask it to finish, and do not wait for it."""
        _signal(self.pid, signal.SIGTERM)

    def freeze(self) -> None:
        """Stop it and its children in their tracks: a zombie writer in the making."""
        for pid in (self.pid, *self.children()):
            _signal(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on as if nothing had happened."""
        for pid in (*self.children(), self.pid):
            _signal(pid, signal.SIGCONT)

    def tail(self, lines: int = 40) -> str:
        """The end of its log, under its name."""
        state = "running" if self.alive else f"exit {self._popen.returncode}"
        return f"--- {self.name} (pid {self.pid}, {state})\n" + "\n".join(self.text.splitlines()[-lines:])


class Web(Process):
    """A web server; `url` is its origin and `ws_url` the same for websockets."""

    url = ""

    @property
    def ws_url(self) -> str:
        """The origin for websockets."""
        return self.url.replace("http://", "ws://", 1)


class Stack:
    """The processes of one test, all ended with it, whatever they forked."""

    def __init__(self, directory: Path, redis: RedisServer | None = None) -> None:
        self.directory = directory
        self.world_log = directory / "world.log"
        self.hold = directory / "hold"
        self.processes: list[Process] = []
        self.redis = redis
        self._mark = uuid.uuid4().hex
        # What a killed process has left there goes with the test. Not below the test's own directory: the path of a
        # socket has room for about a hundred characters.
        self._temporary = Path(tempfile.mkdtemp(dir=os.environ[DIRECTORY_VARIABLE]))
        self.env: dict[str, str] = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "DJANGO_SETTINGS_MODULE": os.environ["DJANGO_SETTINGS_MODULE"],
            "DATABASE_URL": database_url(),
            "REDIS_URL": redis.url if redis else os.environ["REDIS_URL"],
            world.LOG_VARIABLE: str(self.world_log),
            world.HOLD_VARIABLE: str(self.hold),
            "TMPDIR": str(self._temporary),
            MARK: self._mark,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def worker(self, kind: str | None = None, *words: str, **env: str) -> Process:
        """A worker of the kind the test run is for (`--workers`), on the command line the documentation gives."""
        return self.manage("worker", *WORKERS[kind or chosen_workers()], *words, **env)

    def sweeper(self, **env: str) -> Process:
        """The sweep, looping; stock workers need it beside them, a concurrent one brings its own."""
        return self.manage("sweeper", "agentcore_sweep", "--loop", **env)

    def manage(self, name: str, *words: str, **env: str) -> Process:
        """Any management command."""
        return self.start(name, [sys.executable, "-m", "django", *words], **env)

    def web(self, **env: str) -> Web:
        """A daphne on a free port, once it answers."""
        port = free_port()
        command = [sys.executable, "-m", "daphne", "-b", "127.0.0.1", "-p", str(port), "tests.asgi:application"]
        process = self.start("web", command, kind=Web, **env)
        process.url = f"http://127.0.0.1:{port}"
        wait_for(lambda: not process.alive or _answers(process.url), 30, "the web server's first answer")
        if not process.alive:
            raise AssertionError(f"The web server ended before it answered.\n{process.tail()}")
        return process

    def start(self, name: str, command: list[str], kind: type[Any] = Process, **env: str) -> Any:
        """Start any command with the stack's environment."""
        log = self.directory / f"{len(self.processes)}-{name}.log"
        process = kind(name, command, {**self.env, **env}, log)
        self.processes.append(process)
        return process

    def stop_redis(self) -> None:
        """Take the stack's own Redis away, with all it held."""
        assert self.redis is not None, "use the outage_stack fixture: the run's Redis belongs to every test"
        self.redis.stop()

    def start_redis(self) -> None:
        """Bring it back, empty, at the same address."""
        assert self.redis is not None, "use the outage_stack fixture: the run's Redis belongs to every test"
        self.redis = start_redis(self.directory, self.redis.port)

    def hold_tools(self) -> None:
        """Keep every tool of the test agents inside its body, after its effect."""
        self.hold.touch()

    def release_tools(self) -> None:
        """Let held tools return."""
        self.hold.unlink(missing_ok=True)

    def effects(self) -> list[world.Effect]:
        """The calls that really happened."""
        return world.effects(self.world_log)

    def tails(self) -> str:
        """The end of every process's log."""
        return "\n".join(process.tail() for process in self.processes)

    def close(self) -> None:
        """End every process of the stack, including work horses whose parent is gone."""
        self.release_tools()
        for process in self.processes:
            if process.alive:
                process.kill9()
        for orphan in psutil.process_iter():
            try:
                if orphan.environ().get(MARK) == self._mark:
                    orphan.kill()
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        if self.redis is not None:
            self.redis.stop()
        warm.cool_down()
        shutil.rmtree(self._temporary, ignore_errors=True)  # a killed process may still be writing there


def _signal(pid: int, sign: signal.Signals) -> None:
    try:
        os.kill(pid, sign)
    except ProcessLookupError:
        return


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/admin/login/", timeout=2):
            return True
    except urllib.error.HTTPError as answer:
        answer.close()
        return True
    except OSError:
        return False
