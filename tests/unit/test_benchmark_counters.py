"""The benchmarks read what a server's processes took, those that have ended included, and say it by the run."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks import counters

pytestmark = pytest.mark.once

BUSY = """
import time
while time.process_time() < 0.3:
    pass
print(flush=True)
input()
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="There is no /proc to read.")
def test_the_time_of_a_child_counts_while_it_lives_and_after() -> None:
    before = counters.cpu_ms(os.getpid())
    with subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        alive = counters.cpu_ms(os.getpid())
        child.communicate(b"\n")
    ended = counters.cpu_ms(os.getpid())
    assert alive - before >= 280
    assert ended - before >= 280


def test_what_a_run_added_is_the_difference_over_the_runs() -> None:
    assert counters.per_run({"wal_kb": 10.0}, {"wal_kb": 40.0}, 10) == {"wal_kb_per_run": 3.0}


def test_sqlite_counts_nothing() -> None:
    with counters.meter("sqlite:////tmp/no.sqlite3") as meter:
        assert (meter.settled(), meter.at_once()) == ({}, {})
