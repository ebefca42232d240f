"""The world outside the database: a file that says which calls really happened, whatever died afterwards."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

LOG_VARIABLE = "WORLD_LOG"
HOLD_VARIABLE = "WORLD_HOLD"
HOLD_SECONDS = 60.0


@dataclass(frozen=True)
class Effect:
    """One call that happened."""

    run_id: str
    call_id: str
    attempt: int


def append(run_id: object, call_id: str, attempt: int) -> None:
    """Note one call, in one write, so that calls of many processes cannot mix."""
    handle = os.open(os.environ[LOG_VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, f"{run_id} {call_id} {attempt}\n".encode())
    finally:
        os.close(handle)


def log() -> Path:
    """The file of this process's stack."""
    return Path(os.environ[LOG_VARIABLE])


def effects(log: Path) -> list[Effect]:
    """What happened so far, in order."""
    if not log.exists():
        return []
    lines = (line.split() for line in log.read_text().splitlines())
    return [Effect(run_id, call_id, int(attempt)) for run_id, call_id, attempt in lines]


def wait_while_held() -> None:
    """Stay inside the tool for as long as the file named by WORLD_HOLD exists."""
    deadline = time.monotonic() + HOLD_SECONDS
    while held() and time.monotonic() < deadline:
        time.sleep(0.02)


def held() -> bool:
    """Whether the test holds tools inside their bodies."""
    hold = os.environ.get(HOLD_VARIABLE)
    return bool(hold) and Path(str(hold)).exists()
