"""Where the time goes: py-spy looks at this process while it is measured, if a directory says where to write."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DIRECTORY = "BENCH_PROFILE"
RATE = "400"


@contextmanager
def profiled(name: str) -> Iterator[None]:
    """Write `<name>.txt`, stacks with their counts, into the directory that BENCH_PROFILE names; else do nothing."""
    directory = os.environ.get(DIRECTORY)
    if not directory:
        yield
        return
    target = Path(directory) / f"{name}.txt"
    target.parent.mkdir(parents=True, exist_ok=True)
    spy = Path(sys.executable).with_name("py-spy")
    command = [str(spy), "record", "--pid", str(os.getpid()), "--rate", RATE, "--gil", "--threads"]
    watching = subprocess.Popen(
        [*command, "--format", "raw", "--output", str(target)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(1)  # it says nowhere that it has begun
    try:
        yield
    finally:
        watching.send_signal(signal.SIGINT)
        watching.wait(30)
