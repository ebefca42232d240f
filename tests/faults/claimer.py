"""Processes that each try to drive every run of a list, as soon as they are told to.

    python -m tests.faults.claimer DIRECTORY NAME ...

One process for each name, forked from one that has Django ready and no connection
yet. Each says that it is ready by a file of its name, starts when `go` is there,
and writes the runs it drove to the end into `NAME.drove`.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import django

PATIENCE = 60.0


def main(directory: Path, names: list[str]) -> None:
    """Let a process for each name drive what nobody else drives."""
    django.setup()
    from agentcore.jobs import single  # noqa: F401 - once, and not in every process

    children = []
    for name in names:
        if not (child := os.fork()):
            return claim(directory, name)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


def claim(directory: Path, name: str) -> None:
    """Drive what nobody else drives."""
    from agentcore.jobs.single import execute_run

    runs = (directory / "runs").read_text().split()
    (directory / f"{name}.ready").touch()
    deadline = time.monotonic() + PATIENCE
    while not (directory / "go").exists() and time.monotonic() < deadline:
        time.sleep(0.001)
    drove = [run_id for run_id in runs if execute_run(run_id) == "ended"]
    (directory / f"{name}.part").write_text("\n".join(drove))
    (directory / f"{name}.part").rename(directory / f"{name}.drove")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
