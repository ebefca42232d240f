"""The demo's supervisor against real processes: it ends all of them, however the end comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.once

SUPERVISE = """
import os
import sys
from pathlib import Path
from supportdemo.supervisor import Output, Supervisor

supervisor = Supervisor(Output(sys.stdout))
for name, program in (("steady", STEADY), ("other", OTHER)):
    supervisor.add(name, [sys.executable, "-u", "-c", program], {**os.environ, "SUPERVISED": MARK}, Path.cwd())
ended = supervisor.run(lambda: print("started", flush=True), lambda: print("stopping", flush=True))
print(f"ended={ended} lines={supervisor.has_lines_of('other')}", flush=True)
"""
# Forks a child in a process group of its own, as an RQ worker does, and ignores a polite request to end.
STUBBORN = """
import os, signal, time
if os.fork() == 0:
    os.setpgrp()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", os.getpid())
time.sleep(300)
"""
# Forks a child that holds its output open, as an RQ work horse does, and is then killed.
ORPHANING = """
import os, signal, time
if os.fork() == 0:
    os.setpgrp()
    time.sleep(300)
time.sleep(0.5)
os.kill(os.getpid(), signal.SIGKILL)
"""
STEADY = "import time; print('up'); time.sleep(300)"
CRASH = "import time; time.sleep(0.5); print('no such table: case'); raise SystemExit(3)"


class Supervised:
    """A supervisor in a process of its own, its output in a file."""

    def __init__(self, directory: Path, other: str, mark: str) -> None:
        self.log = directory / "supervisor.log"
        self.mark = f"SUPERVISED={mark}"
        values = {"STEADY": STEADY, "OTHER": other, "MARK": mark}
        code = "".join(f"{name} = {value!r}\n" for name, value in values.items()) + SUPERVISE
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code], cwd=ROOT, stdout=output, stderr=output, start_new_session=True
            )

    @property
    def text(self) -> str:
        return self.log.read_text()

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.text, f"{text!r} in\n{self.text}")

    def programs(self) -> list[int]:
        name, value = self.mark.split("=")
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(name) == value and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
            except psutil.Error:
                continue
        return found


def wait_until(condition: object, what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.05)


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[object]:
    made: list[Supervised] = []

    def start(other: str) -> Supervised:
        made.append(Supervised(tmp_path, other, f"{tmp_path.name}-{os.getpid()}-{len(made)}"))
        return made[-1]

    yield start
    for one in made:
        one.process.kill()
        one.process.wait()
        for pid in one.programs():
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_every_program(supervise, number):
    supervised = supervise(STEADY)
    supervised.wait_for("started")
    # A program that has just been forked does not have its environment yet.
    wait_until(lambda: len(supervised.programs()) == 2, "both programs")
    os.kill(supervised.process.pid, number)
    assert supervised.process.wait(20) == 0
    assert "ended=None" in supervised.text
    assert supervised.programs() == []


def test_a_signal_during_the_start_is_not_lost(supervise):
    supervised = supervise(STEADY)
    wait_until(lambda: supervised.programs() or supervised.process.poll() is not None, "the first program")
    os.kill(supervised.process.pid, signal.SIGTERM)
    assert supervised.process.wait(20) == 0
    assert "ended=None" in supervised.text
    assert supervised.programs() == []


def test_a_program_that_will_not_end_is_killed_with_its_children(supervise):
    supervised = supervise(STUBBORN)
    wait_until(lambda: supervised.text.count("up") == 3, "all programs")
    os.kill(supervised.process.pid, signal.SIGTERM)
    assert supervised.process.wait(20) == 0
    assert supervised.programs() == []


def test_a_crash_is_named_and_ends_the_rest(supervise):
    supervised = supervise(CRASH)
    assert supervised.process.wait(20) == 0
    assert "ended=('other', 3) lines=True" in supervised.text
    assert "other  | no such table: case" in supervised.text
    assert supervised.programs() == []


def test_a_killed_program_is_noticed_at_once_though_its_fork_holds_the_output_open(supervise):
    supervised = supervise(ORPHANING)
    assert supervised.process.wait(5) == 0  # honcho alone would wait for the fork
    assert f"ended=('other', {-signal.SIGKILL}) lines=False" in supervised.text
    assert "stopping" not in supervised.text
    assert supervised.programs() == []


def test_a_wish_to_stop_is_acknowledged_before_the_programs_have_ended(supervise):
    supervised = supervise(STUBBORN)
    wait_until(lambda: supervised.text.count("up") == 3, "all programs")
    os.kill(supervised.process.pid, signal.SIGINT)
    wait_until(lambda: "stopping" in supervised.text, "an acknowledgement", seconds=2)
    assert supervised.process.poll() is None
    assert supervised.process.wait(20) == 0
    assert supervised.text.count("stopping") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_programs_do_not_outlive_a_killed_supervisor(supervise):
    supervised = supervise(STEADY)
    supervised.wait_for("started")
    supervised.process.kill()
    supervised.process.wait()
    wait_until(lambda: not supervised.programs(), "the programs to end")
