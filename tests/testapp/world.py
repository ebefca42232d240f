"""The world outside the database: a file that says which calls really happened, whatever died afterwards."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOG_VARIABLE = "WORLD_LOG"
HOLD_VARIABLE = "WORLD_HOLD"
HOLD_SECONDS = 60.0


@dataclass(frozen=True)
class Effect:
    """One call that happened."""

    run_id: str
    call_id: str
    attempt: int
    arguments: Mapping[str, Any] | None = None


def append(run_id: object, call_id: str, attempt: int, arguments: Mapping[str, Any] | None = None) -> None:
    """Note one call, and what its body was given."""
    note(log(), [str(run_id), call_id, attempt, arguments])


def note(path: Path, values: list[Any]) -> None:
    """Add a line, in one write, so that those of many processes cannot mix."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, f"{json.dumps(values)}\n".encode())
    finally:
        os.close(handle)


def notes(path: Path) -> list[Any]:
    """What was noted in a file, in order."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def log() -> Path:
    """The file of this process's stack."""
    return Path(os.environ[LOG_VARIABLE])


def effects(log: Path) -> list[Effect]:
    """What happened so far, in order."""
    return [Effect(*noted) for noted in notes(log)]


def wait_while_held() -> None:
    """Stay inside the tool for as long as the file named by WORLD_HOLD exists."""
    deadline = time.monotonic() + HOLD_SECONDS
    while held() and time.monotonic() < deadline:
        time.sleep(0.02)


def held() -> bool:
    """Whether the test holds tools inside their bodies."""
    hold = os.environ.get(HOLD_VARIABLE)
    return bool(hold) and Path(str(hold)).exists()
