"""The passes of `make test`, side by side: as many at a time as there are processors, each into a log of its own.

A pass waits more than it computes, so that two of them on two processors take little
longer than the longer one. PostgreSQL's is cut in two for the same reason: half of it
fills the time that is left when the SQLite pass, which is shorter, is done.
"""

from __future__ import annotations

import os
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

from supportdemo.servers import die_with_parent

SQLITE = ("--ds=tests.settings.sqlite", "--sample")
POSTGRES = ("--ds=tests.settings.postgres", "--sample", "-m", "not once")
# The longest first, so that none of the processors is left with it alone.
PASSES: dict[str, Sequence[str]] = {
    "PostgreSQL, faults": (*POSTGRES, "--part", "faults"),
    "SQLite": SQLITE,
    "PostgreSQL, others": (*POSTGRES, "--part", "others"),
}
NOTHING_COLLECTED = 5
WELL = (0, NOTHING_COLLECTED)
INTERRUPTED = 130
GRACE = 30.0  # seconds in which an interrupted pass may stop its servers
PROGRESS = re.compile(r"\[ *(\d+)%\]$", re.MULTILINE)
FAILED = re.compile(r"^(?:\S+ )?[.FEsxX]*[FE][.FEsxX]* +\[ *\d+%\]$", re.MULTILINE)


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
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )

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


def play(passes: Sequence[Pass], at_a_time: int, *, every: float = 0.5) -> int:
    """Run them all, say how they get on, and show all of what failed at the end; returns the status of the whole."""
    waiting, under_way, said = list(passes), list[Pass](), ""
    began = time.monotonic()
    try:
        while waiting or under_way:
            while waiting and len(under_way) < at_a_time:
                under_way.append(waiting.pop(0))
                under_way[-1].start()
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


def main(arguments: Sequence[str]) -> int:
    """Run the passes with more arguments for each pytest."""
    signal.signal(signal.SIGTERM, interrupt)
    with tempfile.TemporaryDirectory(prefix="agentcore-passes-") as directory:
        passes = [
            Pass(name, [sys.executable, "-m", "pytest", *options, *arguments], Path(directory) / f"{number}.txt")
            for number, (name, options) in enumerate(PASSES.items())
        ]
        print(f"Each pass writes to a file in {directory}", flush=True)
        return play(passes, max(1, min(len(passes), os.cpu_count() or 1)))


def interrupt(number: int, frame: FrameType | None) -> None:
    """Make a SIGTERM what Ctrl-C is."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
