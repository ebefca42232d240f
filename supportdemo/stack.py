"""What the demo consists of: a Redis, a database, a worker and a web server."""

from __future__ import annotations

import os
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from .servers import RedisServer, start_redis

ROOT = Path(__file__).resolve().parent.parent
ANSWER_SECONDS = 60.0
PORTS_TRIED = 50


class CannotStart(RuntimeError):
    """Something the demo needs is missing; the message says what to do."""


def worker_command() -> list[str]:
    """The worker that drives many runs at a time, waits for a Redis that is away, and sweeps."""
    return _manage("agentcore_worker")


def web_command(host: str, port: int) -> list[str]:
    """The web server for pages, API and websockets."""
    where = ["--verbosity", "0", "--bind", host, "--port", str(port)]
    return [sys.executable, "-m", "supportdemo.bounded_daphne", *where, "supportdemo.asgi:application"]


def _manage(*words: str) -> list[str]:
    return [sys.executable, str(ROOT / "manage.py"), *words]


def environment(redis_url: str) -> dict[str, str]:
    """The environment of the two programs: quiet, unbuffered, on this Redis."""
    return {"LOG_LEVEL": "WARNING", **os.environ, "REDIS_URL": redis_url, "PYTHONUNBUFFERED": "1"}


@contextmanager
def redis_for_demo(directory: Path) -> Iterator[tuple[str, RedisServer | None]]:
    """Yield the address of a Redis that answers: the one of `REDIS_URL`, else a private one that ends with us."""
    if given := os.environ.get("REDIS_URL"):
        try:
            with redis.Redis.from_url(given, socket_timeout=3, socket_connect_timeout=3) as client:
                client.ping()
        except (redis.RedisError, ValueError) as error:
            raise CannotStart(
                f"REDIS_URL does not answer ({error}). Start that server, or unset REDIS_URL to have one started here."
            ) from error
        yield given, None
        return
    server = start_redis(directory)
    try:
        yield server.url, server
    finally:
        server.stop()


def choose_port(host: str, wanted: int) -> int:
    """Return `wanted`, or the next port that is free; 0 asks the system for any."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in range(wanted, wanted + (PORTS_TRIED if wanted else 1)):
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except (OSError, OverflowError):
                continue
            chosen: int = probe.getsockname()[1]
            return chosen
    raise CannotStart(f"No port from {wanted} on is free on {host}. Choose another with --port.")


def address(host: str, port: int) -> str:
    """The address a person on this machine opens."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{port}/"


def wait_until_it_answers(url: str, give_up: Callable[[], bool], seconds: float = ANSWER_SECONDS) -> bool:
    """Ask for a page until it comes; False after `seconds`, or as soon as `give_up()`."""
    deadline = time.monotonic() + seconds
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline and not give_up():
        try:
            with direct.open(url, timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    return False
