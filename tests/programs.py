"""Programs that a test runs to their end, and whether one that it started still runs."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil


def output(command: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str]) -> str:
    """Run a program and return all that it said; fails with that where the program failed."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=dict(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}"
    return done.stdout


def lives(pid: int) -> bool:
    """Whether a process runs: one that has ended but was not waited for (a container without an init) does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
