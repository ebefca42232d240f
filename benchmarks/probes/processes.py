"""Real workers and web servers beside a measurement, ended with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from benchmarks.servers import ROOT
from supportdemo.servers import die_with_parent, free_port

RQ_WORKER = ("rqworker", "agentcore", "--worker-class", "agentcore.jobs.worker.AgentcoreWorker")
# Ends the process's whole group: a forked work horse too.
GRACE_SECONDS = 15.0


def agentcore_worker(concurrency: int) -> tuple[str, ...]:
    """Return the command of the worker that drives many runs."""
    return ("agentcore_worker", "--concurrency", str(concurrency))


def manage(*words: str) -> list[str]:
    """Return the command line of a management command."""
    return [sys.executable, "-m", "django", *words]


@contextmanager
def running(
    command: list[str], env: Mapping[str, str] | None = None, *, own_group: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process, and end it with everything below it; what it says goes to this process's stderr.

    With `own_group` it leads a group, which can be killed as a whole.
    """
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        stderr=sys.stderr,
        start_new_session=own_group,
        preexec_fn=die_with_parent(),
    )
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask it to finish; end it where it does not."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def finish(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait for its own end; raises where it fails."""
    status = process.wait(seconds)
    if status:
        raise RuntimeError(f"{process.args!r} ended with {status}")


@contextmanager
def web_server(server: str = "uvicorn") -> Iterator[str]:
    """Start a web server, uvicorn or daphne, and give its origin once it answers."""
    port = free_port()
    application = "benchmarks.asgi:application"
    command = {
        "uvicorn": ["uvicorn", application, "--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"],
        "daphne": ["daphne", "-b", "127.0.0.1", "-p", str(port), application],
    }[server]
    with running([sys.executable, "-m", *command]) as process:
        wait_for(lambda: _answers(f"http://127.0.0.1:{port}/") or process.poll() is not None, 30, "the web server")
        if process.poll() is not None:
            raise RuntimeError(f"{server} ended with {process.returncode}")
        yield f"127.0.0.1:{port}"


def wait_for(happened: Callable[[], bool], seconds: float, what: str, every: float = 0.05) -> None:
    """Ask until it is so; raises `TimeoutError` where it never is."""
    until = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > until:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(every)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except urllib.error.HTTPError as answer:
        answer.close()
        return True
    except OSError:
        return False
