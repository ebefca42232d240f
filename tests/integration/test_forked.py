"""Processes that drive one suspect run each: told to hand over before they are ended, whenever the word comes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agentcore.jobs import forked
from agentcore.jobs.forked import ForkedRuns
from agentcore.jobs.single import DRAIN

pytestmark = [pytest.mark.once, pytest.mark.covers("fault:O1")]


def until_told(place: str) -> None:
    """Stands for the drive of a run: goes on until it is drained, and hands over."""
    os.setsid()
    Path(place, "began").touch()
    while not DRAIN._asked:
        time.sleep(0.01)
    Path(place, "handed over").touch()


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> ForkedRuns:
    """Forked runs whose server has loaded the project, so that a process begins within milliseconds."""
    monkeypatch.setattr(forked, "drive_forked", until_told)
    found = ForkedRuns()
    found.start_server()
    return found


async def begun(runs: ForkedRuns, place: Any, *, until_it_runs: bool = True) -> asyncio.Task[None]:
    """Begin to drive a run in a process of its own."""
    task = asyncio.create_task(runs.drive(place))
    await asyncio.sleep(0)
    while until_it_runs and not (place / "began").exists():  # noqa: ASYNC110 - the other end is a process
        await asyncio.sleep(0.01)
    return task


@pytest.mark.parametrize("started", [True, False], ids=["running", "still being started"])
async def test_a_process_whose_job_is_stopped_hands_its_run_over(
    runs: ForkedRuns, tmp_path: Path, started: bool
) -> None:
    async with asyncio.timeout(30):
        task = await begun(runs, tmp_path, until_it_runs=started)
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()
    assert (tmp_path / "handed over").exists()


@pytest.mark.parametrize("started", [True, False], ids=["running", "still being started"])
async def test_a_drain_reaches_every_process(runs: ForkedRuns, tmp_path: Path, started: bool) -> None:
    async with asyncio.timeout(30):
        task = await begun(runs, tmp_path, until_it_runs=started)
        runs.drain()
        await task
    assert (tmp_path / "handed over").exists()


async def test_a_process_that_is_begun_after_the_drain_hands_over_at_once(runs: ForkedRuns, tmp_path: Path) -> None:
    runs.drain()
    async with asyncio.timeout(30):
        await runs.drive(tmp_path)  # type: ignore[arg-type]
    assert (tmp_path / "handed over").exists()


BROKEN = """
import django, threading, time
django.setup()
from agentcore.jobs import forked

def broken(run_id):
    threading.Thread(target=time.sleep, args=(600,)).start()
    raise RuntimeError("what nobody thought of")

forked.execute_run = broken
forked.drive_forked("a run")
"""


def test_a_forked_process_whose_drive_raises_says_so_and_ends_though_a_thread_goes_on() -> None:
    done = subprocess.run([sys.executable, "-c", BROKEN], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "what nobody thought of" in done.stderr
