"""`make test` and its like: a pass of the suite for each database, side by side, each into a log of its own.

A pass spreads its tests over several pytest workers, each with servers of its own (pytest-xdist): most tests wait for
processes, leases and sockets more than they compute, so that there are more workers than processors.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from supportdemo.servers import launch

SQLITE = ("SQLite", "--ds=tests.settings.sqlite")
POSTGRES = ("PostgreSQL", "--ds=tests.settings.postgres", "-m", "not once")
# What each target takes (tests/taking.py), in which passes.
TARGETS: dict[str, Sequence[str]] = {
    "test": ("--take=test",),
    "faults": ("--take=faults",),
    "matrix": ("--take=matrix", "tests/faults"),
}
WORKERS_PER_PROCESSOR = 1.5
NOTHING_COLLECTED = 5
WELL = (0, NOTHING_COLLECTED)
INTERRUPTED = 130
GRACE = 30.0  # seconds in which an interrupted pass may stop its servers
PROGRESS = re.compile(r"\[ *(\d+)%\]$", re.MULTILINE)
FAILED = re.compile(r"^[.FEsxX]*[FE][.FEsxX]* +\[ *\d+%\]$", re.MULTILINE)


@dataclass
class Pass:
    """One run of pytest: waiting, under way or done."""

    name: str
    command: Sequence[str]
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    began: float = 0.0

    def start(self) -> None:
        """Begin, in a session of its own: what a terminal's Ctrl-C means is told once, by whoever started it."""
        self.began = time.monotonic()
        # Else every process compiles the project and the tests again.
        env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self.process = launch(self.command, self.log, env=env)

    @property
    def status(self) -> int | None:
        """The exit status; None before there is one."""
        return self.process.poll() if self.process else None

    @property
    def running(self) -> bool:
        """Whether it has begun and not ended."""
        return self.process is not None and self.status is None

    @property
    def text(self) -> str:
        """What pytest has said."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def last_line(self) -> str:
        """Pytest's summary, once it has ended."""
        return (self.text.rstrip().splitlines() or [f"exit {self.status}"])[-1].strip("= ")

    @property
    def failures(self) -> bool:
        """Whether a test has failed by now."""
        return bool(FAILED.search(self.text))

    def progress(self) -> str:
        """How far it is."""
        percents = PROGRESS.findall(self.text)
        return f"{self.name} {percents[-1] if percents else 0} %{', with failures' if self.failures else ''}"


def play(passes: Sequence[Pass], *, every: float = 0.5) -> int:
    """Run them all, say how they get on, and show all of what failed at the end; returns the status of the whole."""
    under_way, said = list(passes), ""
    began = time.monotonic()
    try:
        for one in passes:
            one.start()
        while under_way:
            time.sleep(every)
            for done in [one for one in under_way if not one.running]:
                under_way.remove(done)
                print(f"{clock(began)}  {done.name}: {done.last_line}", flush=True)
            if under_way and (now := tens(under_way)) != said:
                print(f"{clock(began)}  {', '.join(one.progress() for one in under_way)}", flush=True)
                said = now
    except KeyboardInterrupt:
        print("Stopping …", flush=True)
        stop(under_way)
        show(one for one in passes if one.failures)
        return INTERRUPTED
    show(one for one in passes if one.status not in WELL)
    return verdict([one.status for one in passes])


def stop(passes: Iterable[Pass]) -> None:
    """Have each pytest end its test and its servers; a second interrupt ends them at once."""
    processes = [one.process for one in passes if one.process]
    try:
        for process in processes:
            process.send_signal(signal.SIGINT)
        for process in processes:
            process.wait(GRACE)
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        for process in processes:
            process.kill()


def tens(passes: Iterable[Pass]) -> str:
    """What of their progress is worth a new line."""
    return re.sub(r"\d(?= %)", "", " ".join(one.progress() for one in passes))


def show(passes: Iterable[Pass]) -> None:
    """Print all that pytest said."""
    for one in passes:
        print(f"\n== {one.name}\n{one.text}", flush=True)


def verdict(statuses: Sequence[int | None]) -> int:
    """The worst status; a pass that had no test to run, as under `-k`, is none, unless all had none."""
    bad = [status for status in statuses if status not in WELL]
    if bad:
        return bad[0] if bad[0] is not None and bad[0] > 0 else 1
    return 0 if 0 in statuses else NOTHING_COLLECTED


def clock(since: float) -> str:
    """Minutes and seconds since then."""
    minutes, seconds = divmod(round(time.monotonic() - since), 60)
    return f"{minutes:2}:{seconds:02}"


def commands(target: str, seed: int, arguments: Sequence[str], processors: int) -> dict[str, list[str]]:
    """The command of each pass."""
    return {
        name: [
            *(sys.executable, "-m", "pytest", *options, *TARGETS[target], f"--randomly-seed={seed}"),
            *("--numprocesses", str(max(1, round(processors * WORKERS_PER_PROCESSOR))), "--dist=loadgroup"),
            *arguments,
        ]
        for name, *options in (POSTGRES, SQLITE)
    }


def main(arguments: Sequence[str]) -> int:
    """Run a target's passes with more arguments for each pytest."""
    parser = argparse.ArgumentParser(prog="python -m tests.tools.passes", allow_abbrev=False)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--randomly-seed", type=int, default=random.getrandbits(32))
    chosen, rest = parser.parse_known_args(arguments)
    signal.signal(signal.SIGTERM, interrupt)
    with tempfile.TemporaryDirectory(prefix="agentcore-passes-") as directory:
        all_of_them = commands(chosen.target, chosen.randomly_seed, rest, os.cpu_count() or 1)
        passes = [Pass(name, command, Path(directory) / f"{name}.txt") for name, command in all_of_them.items()]
        print(
            f"Each pass writes to a file in {directory}.\n"
            f'The order is random; to repeat it: make {chosen.target} ARGS="--randomly-seed={chosen.randomly_seed}"',
            flush=True,
        )
        return play(passes)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Make a SIGTERM what Ctrl-C is."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
