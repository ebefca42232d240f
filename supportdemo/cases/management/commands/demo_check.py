"""Start the demo as `demo` does, play one case through it, stop it, and see that nothing is left."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from django.core.management.base import BaseCommand, CommandError

from supportdemo.desk_client import Unexpected, expect
from supportdemo.playthrough import play
from supportdemo.servers import launch
from supportdemo.stack import ROOT

ADDRESS = re.compile(r"The support desk is open:\s+(http://\S+)/")
START_SECONDS = 45.0
STOP_SECONDS = 20.0
TAIL_LINES = 40
REDIS = re.compile(r"Redis\s+private, redis://127\.0\.0\.1:(\d+)/")
MARK = "SUPPORTDEMO_CHECK"


class Command(BaseCommand):
    """Prove the demo through its real HTTP, WebSocket, RQ and Redis path."""

    help = "Play one support case through a demo of its own and print the transcript."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the transcript and `demo-check: ok`, or what was expected and the end of the logs."""
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="demo-check-") as name:
            directory = Path(name)
            log = directory / "demo.log"
            mark = uuid4().hex
            try:
                with _demo(directory, log, mark) as url:
                    self._say("demo", f"answers at {url} after {time.monotonic() - started:.1f} s")
                    play(url, self._say)
                _check_end(log, mark)
                self._say("demo", "stopped, and nothing of it is left running")
            except Exception as error:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:]) if log.exists() else ""
                raise CommandError(f"demo-check failed: {error}\n--- the demo's last lines\n{tail}") from error
        self.stdout.write(f"demo-check: took {time.monotonic() - started:.1f} s")
        self.stdout.write("demo-check: ok")

    def _say(self, who: str, what: str) -> None:
        lines = [line for line in what.splitlines() if line]
        self.stdout.write(f"{who:>12}  " + f"\n{'':14}".join(lines))
        self.stdout.flush()


def _environment(directory: Path, mark: str) -> dict[str, str]:
    """A database, files and a model of its own; a `DATABASE_URL` or `REDIS_URL` that is given is kept."""
    return {
        "DATABASE_URL": f"sqlite:///{directory / 'demo.sqlite3'}",
        **os.environ,
        "DEMO_DATA_DIR": str(directory / "data"),
        "DEMO_MODEL": "offline",
        "PYTHONUNBUFFERED": "1",
        MARK: mark,
    }


@contextmanager
def _demo(directory: Path, log: Path, mark: str) -> Iterator[str]:
    """Run `manage.py demo` on a free port; yield its address, and end it as `kill` would."""
    command = [sys.executable, str(ROOT / "manage.py"), "demo", "--port", "0"]
    process = launch(command, log, cwd=ROOT, env=_environment(directory, mark))
    try:
        yield _address(process, log)
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            status = process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
    expect(status == 0, "the demo to end with status 0 when it is asked to stop", status)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if found := ADDRESS.search(log.read_text(errors="replace")):
            return found[1]
        time.sleep(0.1)
    ended = process.poll()
    how = "it did not" if ended is None else f"it ended with status {ended} before it did"
    raise Unexpected(f"expected the demo to answer within {START_SECONDS:g} s; {how}")


def _check_end(log: Path, mark: str) -> None:
    said = log.read_text(errors="replace")
    expect("Stopped." in said, "the demo to say that it has stopped")
    left = _processes_with(mark)
    expect(not left, "nothing left running", f"processes {left}")
    if private := REDIS.search(said):  # it writes its own title over the mark
        with socket.socket() as probe:
            expect(probe.connect_ex(("127.0.0.1", int(private[1]))) != 0, "the private Redis to be gone")


def _processes_with(mark: str) -> list[int]:
    """Return the processes that inherited our mark; where there is no /proc, nobody can tell."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted in entry.read_bytes().split(b"\0"):
                found.append(int(entry.parent.name))
        except OSError:
            continue  # another user's, or gone meanwhile
    return found
