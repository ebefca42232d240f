"""The watchdog ends a blocked process with the documented status, whatever else the process does meanwhile."""

from __future__ import annotations

import subprocess
import sys

import pytest

from agentcore.jobs.watchdog import BLOCKED_STATUS
from tests.stack import ROOT

pytestmark = pytest.mark.once

BUSY_THREADS = """
import threading

def deep(depth):
    return depth and deep(depth - 1) + sum(x for x in range(3))

def churn():
    while True:
        deep(200)

for _ in range(2):
    threading.Thread(target=churn, daemon=True).start()
"""
WATCHED = """
import asyncio
from agentcore.jobs.watchdog import Watchdog

def block_the_loop():
    {block}

async def main():
    watching = asyncio.create_task(Watchdog({seconds}, lambda: 0, lambda: None).watch())
    await asyncio.sleep(0)
    block_the_loop()

asyncio.run(main())
"""
SPIN = "while True: pass"
HOLD_THE_LOCK = 'import re; re.match("(a+)+$", "a" * 64 + "b")'
COME_BACK = "import time; time.sleep({seconds} / 2)"


def ended(block: str, *, seconds: float = 0.5, prelude: str = "") -> subprocess.CompletedProcess[str]:
    source = prelude + WATCHED.format(block=block.format(seconds=seconds), seconds=seconds)
    return subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.covers("fc:C10")
@pytest.mark.parametrize("time", range(3))
def test_a_blocked_process_ends_with_its_status_while_other_threads_are_busy(time: int) -> None:
    process = ended(SPIN, prelude=BUSY_THREADS)
    assert process.returncode == BLOCKED_STATUS, process.stderr[-2000:]
    assert "in block_the_loop" in process.stderr and ("in churn" in process.stderr or "in deep" in process.stderr)


@pytest.mark.covers("fc:C10")
def test_a_process_whose_lock_is_kept_by_code_in_c_ends_with_its_status() -> None:
    process = ended(HOLD_THE_LOCK)
    assert process.returncode == BLOCKED_STATUS
    assert "in block_the_loop" in process.stderr


@pytest.mark.covers("fc:C10")
def test_a_loop_that_moves_again_in_time_lives_on() -> None:
    process = ended(COME_BACK, seconds=2)
    assert (process.returncode, process.stderr) == (0, "")
