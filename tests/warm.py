"""A warm process for each environment, which forks the stack's Django processes: an interpreter that starts from
nothing spends a second of processor time on imports, and the fault tests start hundreds.

What it forks is a process like any other: in a session of its own, with its own environment, standard streams and
command line, and it runs the same module as `__main__`. A warm process has no thread, no event loop and no connection;
it knows the settings, so that there is one for each environment that differs in more than `LATE`, the variables that
are read when they are needed. A worker finds the server of its suspects forked too, which would be an interpreter that
starts from nothing. The server side of this is `python -m tests.warm`.
"""

from __future__ import annotations

import contextlib
import gc
import json
import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from multiprocessing import forkserver, util
from pathlib import Path
from typing import Any, NoReturn

from supportdemo.servers import die_with_parent
from tests.testapp import world

ROOT = Path(__file__).resolve().parent.parent
MARK = "AGENTCORE_STACK"
LATE = (
    "PYTEST_CURRENT_TEST",
    "TMPDIR",
    MARK,
    world.LOG_VARIABLE,
    world.HOLD_VARIABLE,
    "AGENTCORE_FAILPOINTS",
    "AGENTCORE_FAILPOINT_DIR",
)
KEPT = 3
"""How many warm processes a test run keeps: most of its tests use the same few environments."""
WORKER = "agentcore_worker"
COMMANDS = (WORKER, "agentcore_sweep", "rqworker")
MODULES = ("django", "daphne", "supportdemo.bounded_daphne", "uvicorn")
"""What is run warm: all of them load the project."""

_warm: OrderedDict[str, Warm] = OrderedDict()


class Warm:
    """A warm process, as the test run sees it."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.warm", str(theirs.fileno())],
                cwd=ROOT,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                # It ends when the socket does. To die with its parent would be to die with the thread that started it.
                start_new_session=True,
            )
        self._answers = self._ours.makefile("rb")

    def ask(self, **request: Any) -> Any:
        """Have it do something and return its answer."""
        self._ours.sendall(json.dumps(request).encode() + b"\n")
        answer = self._answers.readline()
        if not answer:
            raise RuntimeError(f"a warm process ended with status {self.process.wait()}")
        return json.loads(answer)

    def descriptors(self) -> Iterator[int]:
        """What it costs the test run."""
        yield self._ours.fileno()

    def end(self) -> None:
        """End it; whatever it has forked dies with it."""
        self._answers.close()
        self._ours.close()
        self.process.kill()
        self.process.wait()


class Forked:
    """A process that a warm one has forked, with what `Popen` would offer of it."""

    def __init__(self, warm: Warm, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._warm = warm

    def poll(self) -> int | None:
        """The exit status, as `Popen` gives it; None while it runs."""
        if self.returncode is None:
            self.returncode = self._warm.ask(poll=self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the status."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(f"pid {self.pid}", timeout or 0)
            time.sleep(0.01)
        return status


def fork(command: list[str], env: Mapping[str, str], log: Path) -> Forked | None:
    """Start one of `MODULES` from a warm process; None where the command is another."""
    if command[:2] != [sys.executable, "-m"] or not set(command[2:3]) & set(MODULES):
        return None
    settled = {name: value for name, value in env.items() if name not in LATE}
    key = json.dumps(settled, sort_keys=True)
    if key not in _warm:
        _warm[key] = Warm(settled)
    _warm.move_to_end(key)
    late = {name: env[name] for name in LATE if name in env}
    return Forked(_warm[key], _warm[key].ask(start=command[2:], env=late, log=str(log)))


def cool_down(keep: int = KEPT) -> None:
    """End the warm processes that have not been used for longest, with whatever they have forked."""
    while len(_warm) > keep:
        _warm.popitem(last=False)[1].end()


def running() -> list[Warm]:
    """The warm processes."""
    return list(_warm.values())


# --- the warm process -----------------------------------------------------------------------------------------------


def serve(connection: socket.socket) -> str:
    """Answer until the test run is gone; returns in a forked process only, which then is the module it returns."""
    arrange = die_with_parent()
    with connection, connection.makefile("rb") as requests:
        for line in requests:
            request = json.loads(line)
            if "poll" in request:
                answer = _status(request["poll"])
            else:
                read, ready = os.pipe()
                answer = os.fork()
                if answer == 0:
                    os.close(read)
                    break
                os.close(ready)
                os.read(read, 1)  # as after `Popen`, its session and its log are there when it is answered for
                os.close(read)
            connection.sendall(json.dumps(answer).encode() + b"\n")
        else:
            sys.exit(0)
    _become(request, arrange)
    os.close(ready)
    return str(request["start"][0])


def _status(pid: int) -> int | None:
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def _become(request: dict[str, Any], arrange: Any) -> None:
    os.setsid()
    if arrange is not None:
        arrange()
    os.environ.update(request["env"])
    tempfile.tempdir = None
    log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    sys.argv = request["start"]


def _fork_the_fork_server() -> None:
    """Start what `jobs.forked` would start, in a process that has no thread yet."""
    from agentcore.jobs.forked import PRELOAD

    multiprocessing.get_context("forkserver").set_forkserver_preload([PRELOAD])
    spawn = util.spawnv_passfds  # type: ignore[attr-defined]
    util.spawnv_passfds = _fork_instead  # type: ignore[attr-defined]
    try:
        with contextlib.suppress(OSError):  # where its socket cannot be, the worker will say so
            forkserver.ensure_running()
    finally:
        util.spawnv_passfds = spawn  # type: ignore[attr-defined]


def _fork_instead(executable: str, arguments: list[str], descriptors: list[int]) -> int:
    """Run `python … -c code` in a fork of this process, with these descriptors and the standard streams only."""
    pid = os.fork()
    if pid:
        return pid
    try:
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2 and int(name) not in descriptors:
                with contextlib.suppress(OSError):  # the listing's own
                    os.close(int(name))
        exec(arguments[-1])  # noqa: S102 - multiprocessing's code
        os._exit(0)
    except SystemExit:
        os._exit(0)
    except BaseException:  # noqa: BLE001 - nothing else would say it
        traceback.print_exc()
    os._exit(1)


def warm_up() -> None:
    """Import what Django's processes import, and nothing that opens or starts something."""
    import django
    from django.core.management import get_commands, load_command_class

    django.setup()
    for name in COMMANDS:
        load_command_class(get_commands()[name], name)
    from django.db import connections

    import agentcore.jobs.concurrent
    import agentcore.jobs.worker  # noqa: F401

    connected = [wrapper for wrapper in connections.all(initialized_only=True) if wrapper.connection is not None]
    if threading.active_count() > 1 or connected:
        raise RuntimeError("a process that has a thread or a connection cannot be forked")
    gc.collect()
    gc.freeze()


def main() -> NoReturn:
    """Serve, and in what is forked run Django's command as `python -m django` does."""
    warm_up()
    from agentcore.testing.faults import plans  # loads the models

    module = serve(socket.socket(fileno=int(sys.argv[1])))
    plans.install_from_environment()  # Django was set up before the environment said anything
    if WORKER in sys.argv:
        _fork_the_fork_server()
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    sys.exit(0)


if __name__ == "__main__":
    main()
